// Package plan decides what one restore point does: who stands still and how,
// in which order, and what consistency comes of it. It is pure: everything it
// needs to know stands in its input, and nothing is touched.
package plan

import (
	"slices"

	"snapd/internal/config"
	"snapd/internal/fs"
	"snapd/internal/point"
)

// Input is what is known about a group before its window.
type Input struct {
	Group     string
	Freeze    config.Freeze
	OnOverrun config.OnOverrun
	Units     []string // this version cannot freeze them
	Datasets  []Dataset
	Members   []Member
	Writers   []Writer
	Warnings  []string // of whoever resolved the datasets; passed on
}

// Dataset is one dataset of the group.
type Dataset struct {
	fs.Dataset
	Paths []string // of the host, that made it part of the group
	Users []string // names of the members that write there; none when it is a plain path's only
}

// Member is a member of the group.
type Member struct {
	Kind      string // "container", …
	ID        string
	Name      string
	Running   bool     // also when it is paused
	Paused    bool     // by somebody else, before
	Cgroup    bool     // has a cgroup in the v2 tree
	Project   string   // of Docker Compose
	Service   string   // within the project
	DependsOn []string // services of the same project that must not stand still before it does
}

// Writer is a running container outside the group that writes to its datasets.
type Writer struct {
	Member
	Datasets []fs.Dataset
	Overlaps bool // it writes to the group's own files, not merely to others in the same dataset
	Refuses  bool // it must not be frozen on behalf of others
}

// Ways in which a member is made to stand still.
const (
	ByCgroup = "cgroup"
	ByPause  = "pause"
)

// Plan is what is to be done.
type Plan struct {
	Freeze      []Still // in this order; they are let go in reverse
	Consistency point.Consistency
	Domains     int      // at how many instants the datasets would be taken
	Why         string   // a sentence for people
	Warnings    []string // what the point does not cover, and why
}

// Still is one who is to stand still.
type Still struct {
	Kind, ID, Name string
	How            string // ByCgroup or ByPause
	Outside        bool   // not a member of the group
}

// Refusal says that no point can be made as things are.
type Refusal struct{ Group, Why, Do string }

func (r *Refusal) Error() string {
	return "group " + r.Group + ": " + r.Why + "; " + r.Do
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

// order sorts members so that each comes before those it depends on: front
// ends before databases. Members that know nothing of each other keep their
// order; so do those of a circle.
func order(members []Member) []Member {
	var out []Member
	left := slices.Clone(members)
	for len(left) > 0 {
		next := slices.IndexFunc(left, func(m Member) bool {
			return !slices.ContainsFunc(left, func(other Member) bool { return dependsOn(other, m) })
		})
		next = max(next, 0)
		out = append(out, left[next])
		left = slices.Delete(left, next, next+1)
	}
	return out
}

func dependsOn(a, b Member) bool {
	return a.Project != "" && a.Project == b.Project && a.Service != b.Service && slices.Contains(a.DependsOn, b.Service)
}
