package workload

import (
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"snapd/internal/cgroup"
	"snapd/internal/fs"
	"snapd/internal/proc"
)

// Process is one that writes to the files of a group, or has them open for it. A
// loop device does so too, without one.
type Process struct {
	PID      int       // 0 of a loop device
	Device   string    // its node, "" of a process
	Name     string    // of its program, "" when it has ended
	Started  time.Time // to hundredths of a second; zero when it has ended
	Datasets []fs.Dataset

	in cgroup.Membership // which cgroups it is in; nothing when it has ended
}

// Of tells whether it is in the cgroup of a container or unit.
func (p Process) Of(id string) bool { return p.in.Carries(id) }

// Below tells whether it is in a cgroup of the v2 tree, given by its absolute
// directory, or in one below that.
func (p Process) Below(dir string) bool {
	mount, err := cgroup.Mount()
	if err != nil || dir == "" || p.in.V2 == "" {
		return false
	}
	own, err := cgroup.Dir(mount, p.in.V2)
	if err != nil {
		return false
	}
	_, below := inside(dir, own)
	return below
}

// Holders are the processes that have files of the group open for writing.
func (r *Reach) Holders(o OpenFiles) []Process {
	var out []Process
	for _, f := range o.files {
		out = r.holder(out, f)
	}
	return out
}

// holder adds the process of a file to a list when the file is the group's.
func (r *Reach) holder(list []Process, f openFile) []Process {
	for _, s := range r.spots {
		if _, in := inside(s.root, f.root); !in || s.dev != f.dev || s.inodes != f.inodes {
			continue
		}
		i := slices.IndexFunc(list, func(p Process) bool { return p.PID == f.process.PID && p.Device == f.process.Device })
		if i < 0 {
			list, i = append(list, f.process), len(list)
		}
		if !slices.ContainsFunc(list[i].Datasets, func(d fs.Dataset) bool { return sameDataset(d, s.dataset) }) {
			list[i].Datasets = append(list[i].Datasets, s.dataset)
		}
	}
	return list
}

// processOf looks at a process. When it has ended only its number is known.
func processOf(pid int) (p Process, there bool) {
	p.PID = pid
	look, err := proc.Look(pid)
	if err != nil || !look.Alive() {
		return p, false
	}
	p.Name, p.Started = printable(look.Name), startOf(look)
	p.in, err = cgroup.Of(pid)
	return p, err == nil
}

// startOf is when a process was started. The kernel counts in hundredths of a
// second for everything that it tells programs (proc_pid_stat(5), USER_HZ).
func startOf(p proc.Process) time.Time {
	ticks, err := strconv.ParseInt(p.Start, 10, 64)
	if err != nil {
		return time.Time{}
	}
	return time.Now().Add(time.Duration(ticks)*10*time.Millisecond - proc.Uptime())
}

// printable is a name that a process has given to itself, for people.
func printable(name string) string {
	return strings.Map(func(c rune) rune {
		if !unicode.IsPrint(c) {
			return '?'
		}
		return c
	}, name)
}
