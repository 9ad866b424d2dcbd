package agent

import (
	"context"
	"fmt"
	"slices"
	"time"

	"snapd/internal/freeze"
	"snapd/internal/plan"
	"snapd/internal/point"
	"snapd/internal/workload"
)

// lookLimit bounds each look through the processes of this host.
const lookLimit = 20 * time.Second

// promises tells whether the plan says that nothing writes in the window. Where
// all filesystems are frozen nothing can.
func (r *resolved) promises() bool {
	frozen := r.plan.Consistency == point.Frozen || r.plan.Consistency == point.Stopped
	return frozen && len(r.plan.Filesystems) != len(r.datasets)
}

// freezes tells whether the window freezes this container.
func (r *resolved) freezes(id string) bool {
	return slices.ContainsFunc(r.members, func(m freeze.Member) bool { return m.Kind == freeze.Container && m.ID == id })
}

// stops tells whether the plan has containers shut down.
func (r *resolved) stops() bool {
	return slices.ContainsFunc(r.members, func(m freeze.Member) bool { return m.Stop })
}

// lookAtProcesses plans anew when processes outside of all that is frozen have
// files of the group open for writing.
func (a *Agent) lookAtProcesses(ctx context.Context, s *scene, r *resolved) error {
	if !r.promises() {
		return nil
	}
	if s.open == nil {
		open := workload.LookAtOpenFiles(ctx, lookLimit)
		s.open = &open
	}
	if missed := missedText(*s.open); missed != "" {
		r.input.Warnings = append(slices.Clone(r.input.Warnings), missed)
	}
	r.input.Processes = r.strangers(s, r.reach.Holders(*s.open))
	return r.make()
}

// missedText says for people what a look through the processes did not see.
func missedText(open workload.OpenFiles) string {
	if open.Missed == "" {
		return ""
	}
	return "whether processes of the host write to the group's files cannot be told of all: " + open.Missed
}

// strangers are those of the processes that nothing freezes.
func (r *resolved) strangers(s *scene, processes []workload.Process) []plan.Process {
	var out []plan.Process
	for _, p := range processes {
		frozen := func(m freeze.Member) bool { return m.Kind != freeze.Process && p.Of(m.ID) || p.Below(m.Cgroup) }
		if slices.ContainsFunc(r.members, frozen) || r.names(p) {
			continue
		}
		name := "process " + fmt.Sprint(p.PID)
		if p.Device != "" {
			name = "loop device " + p.Device
		}
		if p.Name != "" {
			name += " (" + p.Name + ")"
		}
		if i := slices.IndexFunc(s.containers, func(c workload.Container) bool { return p.Of(c.ID) }); i >= 0 {
			name += " of container " + s.containers[i].Name
		}
		out = append(out, plan.Process{Name: name, Datasets: p.Datasets})
	}
	return out
}

// names tells whether the plan names the container of a process, because it must
// not be frozen.
func (r *resolved) names(p workload.Process) bool {
	return slices.ContainsFunc(r.input.Writers, func(w plan.Writer) bool { return w.Overlaps && p.Of(w.ID) })
}
