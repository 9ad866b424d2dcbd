// Package plan decides what one restore point does: which members and
// filesystems are frozen, how and in which order, and what consistency that
// gives. It is pure: all that it needs to know is in its input, and it touches
// nothing.
package plan

import (
	"slices"
	"time"

	"snapd/internal/config"
	"snapd/internal/fs"
	"snapd/internal/point"
)

// Input is what is known about a group before its window.
type Input struct {
	Group       string
	Freeze      config.Freeze
	OnOverrun   config.OnOverrun
	Datasets    []Dataset
	Members     []Member
	Others      []Member // containers of the members' projects outside the group: chains of dependencies lead through them
	Writers     []Writer
	Processes   []Process       // outside of all members and writers, with files of the group open for writing
	Filesystems []fs.Filesystem // mounted on the datasets
	Warnings    []string        // from resolving the datasets; passed on

	MaxWindow time.Duration // how long the members may be frozen or stopped
	StopTook  time.Duration // how long stopping them took when a window was given up for it; 0 when none was
}

// Dataset is one dataset of the group.
type Dataset struct {
	fs.Dataset
	Paths []string // of the host, that made it part of the group
	Users []string // names of the members that write there; none when it is a plain path's only
}

// Member is a member of the group.
type Member struct {
	Kind       string // Container, or another word
	ID         string
	Name       string
	Running    bool     // also when it is paused
	Paused     bool     // before the window, by a user or another program
	Cgroup     bool     // has a cgroup in the v2 tree
	AutoRemove bool     // it vanishes when it stops
	Owner      string   // what starts another one in its place when it stops, "" when nothing does
	Project    string   // of Docker Compose; units have one of their own
	Service    string   // within the project
	DependsOn  []string // services of the same project that must not be frozen before it is
}

// Container is the kind of a member that the engine can pause and stop.
const Container = "container"

// Writer is a running container outside the group that writes to its datasets.
type Writer struct {
	Member
	Datasets []fs.Dataset
	Overlaps bool // it writes to the group's own files, not merely to others in the same dataset
	Refuses  bool // it must not be frozen on behalf of others
	Fault    bool // it cannot be frozen; Input.Warnings say why
}

// Process is one of the host that is no member and cannot be frozen.
type Process struct {
	Name     string // for people, with its number
	Datasets []fs.Dataset
}

// Ways to freeze a member.
const (
	ByCgroup = "cgroup"
	ByPause  = "pause"
	ByStop   = "stop"
)

// Plan is what is to be done.
type Plan struct {
	Freeze      []Still         // frozen in this order, thawed in reverse
	Filesystems []fs.Filesystem // frozen after the members, thawed before them
	Consistency point.Consistency
	Domains     int      // at how many instants the datasets would be taken
	Why         string   // a sentence for people
	Warnings    []string // what the point does not cover, and why
}

// Still is one member or writer that the window freezes.
type Still struct {
	Kind, ID, Name string
	How            string // ByCgroup, ByPause or ByStop
	Rank           int    // lower ones are frozen first; members of equal rank do not depend on each other
	Outside        bool   // not a member of the group
}

// Refusal says that no point can be made as things are. Do is also its advice.
type Refusal struct{ Group, Why, Do string }

func (r *Refusal) Error() string {
	return "group " + r.Group + ": " + r.Why
}

// domains counts at how many instants the datasets are taken.
func domains(datasets []Dataset) int {
	type key struct{ driver, domain string }
	seen := map[key]bool{}
	for _, d := range datasets {
		seen[key{d.Driver, d.Domain}] = true
	}
	return len(seen)
}

// ranked is a member and its place in the order.
type ranked struct {
	Member
	rank int
}

// order sorts members so that each comes before those it depends on, also by
// way of others that do not run or are not of the group: front ends before
// databases. Members that do not depend on each other keep their order, and so
// do members that depend on each other in a circle.
func order(members, others []Member) []ranked {
	needs := chains(append(slices.Clone(members), others...))
	dependsOn := func(a, b Member) bool {
		return a.Project != "" && needs[service{a.Project, a.Service}][service{b.Project, b.Service}]
	}
	var out []ranked
	left := slices.Clone(members)
	for rank := 0; len(left) > 0; rank++ {
		var front, rest []Member
		for _, m := range left {
			if slices.ContainsFunc(left, func(o Member) bool { return dependsOn(o, m) && !dependsOn(m, o) }) {
				rest = append(rest, m)
			} else {
				front = append(front, m)
			}
		}
		for _, m := range front {
			out = append(out, ranked{m, rank})
		}
		left = rest
	}
	return out
}

type service struct{ project, name string }

// chains says for every service which others it depends on, at any distance.
func chains(members []Member) map[service]map[service]bool {
	needs := map[service]map[service]bool{}
	for _, m := range members {
		from := service{m.Project, m.Service}
		if needs[from] == nil {
			needs[from] = map[service]bool{}
		}
		for _, d := range m.DependsOn {
			needs[from][service{m.Project, d}] = true
		}
	}
	for through := range needs { // Warshall's closure
		for from := range needs {
			if needs[from][through] {
				for to := range needs[through] {
					needs[from][to] = true
				}
			}
		}
	}
	return needs
}
