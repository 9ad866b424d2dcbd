package agent

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"snapd/internal/advice"
	"snapd/internal/freeze"
	"snapd/internal/plan"
	"snapd/internal/point"
	"snapd/internal/workload"
)

// startedMeanwhile looks for containers that were started after the members
// had been looked up and write to the group's files: they were not frozen.
// In one domain the point is then worth a power cut. Over several it is worth
// nothing: the user was promised one instant, and no less.
func (a *Agent) startedMeanwhile(ctx context.Context, s *scene, g workload.Group, r *resolved, p *point.Point) error {
	over := a.Now()
	promised := r.plan.Consistency == point.Frozen || r.plan.Consistency == point.Stopped
	if s.engine == nil || !promised {
		return nil
	}
	late, err := a.intruders(ctx, s, g, r, over)
	if err != nil {
		p.Warnings = append(p.Warnings, "whether a container was started in the middle cannot be told: "+inOneLine(err))
		return nil
	}
	if len(late) == 0 {
		return nil
	}
	wrote := "container " + strings.Join(late, ", ") + " was started while the restore point was being taken, and writes to the group's files"
	if r.plan.Domains > 1 && !allFrozen(r.plan, r) {
		return advice.With(fmt.Errorf("%s: its %d domains are not of one instant", wrote, r.plan.Domains), "run the same command again")
	}
	p.Consistency = point.Crash
	p.Warnings = append(p.Warnings, wrote+": the point is as after a power cut")
	return nil
}

// allFrozen tells whether the filesystem on every dataset was frozen, so that a
// new process could not write either.
func allFrozen(pl plan.Plan, r *resolved) bool { return len(pl.Filesystems) == len(r.datasets) }

// intruders are the names of those containers. One that was started when the
// window was over is none.
func (a *Agent) intruders(ctx context.Context, s *scene, g workload.Group, r *resolved, over time.Time) ([]string, error) {
	started, err := s.engine.Started(ctx, s.containers)
	if err != nil {
		return nil, err
	}
	ours := map[string]bool{} // we started them ourselves
	for _, m := range r.members {
		ours[m.ID] = m.Stop
	}
	var names []string
	var strangers []workload.Container
	for _, c := range started {
		_, member := g.Member(c.ID)
		switch {
		case ours[c.ID] || c.StartedAt.After(over) || !writes(c):
		case member || ofProject(c, g):
			names = append(names, c.Name)
		default:
			strangers = append(strangers, c)
		}
	}
	ran, err := s.engine.Ran(ctx, slices.DeleteFunc(slices.Clone(r.resting), func(c workload.Container) bool {
		return !writes(c) || slices.Contains(names, c.Name)
	}), over)
	for _, c := range ran {
		names = append(names, c.Name)
	}
	if err != nil || len(strangers) == 0 {
		return names, err
	}
	if g, err = refreshed(ctx, s.engine, g); err != nil {
		return nil, err
	}
	found, err := workload.Host{Containers: strangers, Looks: a.Looks}.Resolve(ctx, g, a.driverList())
	if err != nil {
		return nil, err
	}
	for _, w := range found.Writers {
		if w.Overlaps {
			names = append(names, w.Container.Name)
		}
	}
	return names, nil
}

// refreshed is the group with its members as they are now: some may have ended,
// or been started anew.
func refreshed(ctx context.Context, engine *workload.Engine, g workload.Group) (workload.Group, error) {
	now, err := engine.Containers(ctx)
	if err != nil {
		return g, err
	}
	g.Members = slices.Clone(g.Members)
	for i := range g.Members {
		g.Members[i].Running, g.Members[i].Pid = false, 0
		for _, c := range now {
			if c.ID == g.Members[i].ID {
				g.Members[i] = c
			}
		}
	}
	return g, nil
}

// writes tells whether a container has anything to write to that lasts.
func writes(c workload.Container) bool {
	return slices.ContainsFunc(c.Mounts, func(m workload.Mount) bool { return m.Writable && m.Kind != workload.Tmpfs })
}

// ofProject tells whether a new container is of the group by its project: it
// may have brought a volume that the group did not have.
func ofProject(c workload.Container, g workload.Group) bool {
	return c.Project != "" && slices.ContainsFunc(g.Members, func(m workload.Container) bool { return m.Project == c.Project })
}

// unwell names containers that were stopped for a point and are not up again
// as they should be. The point is kept.
func unwell(r *resolved) error {
	var faults []error
	for _, s := range r.stood {
		if s.Unwell != "" {
			faults = append(faults, advice.With(advice.In(advice.Partial, fmt.Errorf("the restore point is kept, but container %s %s", s.Name, s.Unwell)),
				"look at its log: docker logs %s", s.Name))
		}
	}
	return errors.Join(faults...)
}

// sooner adds to an overrun what helps against the next one.
func sooner(err error) error {
	if _, late := errors.AsType[*freeze.Overrun](err); late {
		return advice.With(err, `raise max-window of the group, or set on-overrun = "crash" if it has one dataset`)
	}
	return err
}

// tellRecovered warns of what a killed process had left.
func tellRecovered(report Report, recovered []freeze.Recovered) {
	for _, r := range recovered {
		report(Event{Kind: Warning, Text: fmt.Sprintf("a killed snapd had left %s frozen at %s: %s", r.Member, r.Window.Format("15:04:05"), r.Outcome)})
	}
}

// Sweep recovers what windows of killed processes left below a run directory.
// Every command does it first. Where nothing was left it asks no program and
// makes nothing. engine is as in Options.
func Sweep(ctx context.Context, run string, engine func(context.Context) (*workload.Engine, error), report Report) error {
	left, err := freeze.Leftovers(run)
	if len(left) == 0 {
		return err
	}
	o, done := recoveryOptions(ctx, run, engine, report)
	defer done()
	recovered, err := freeze.Recover(ctx, o)
	tellRecovered(report, recovered)
	return err
}

// recoveryOptions are those of freeze.Recover: with the engine if it answers.
func recoveryOptions(ctx context.Context, run string, engine func(context.Context) (*workload.Engine, error), report Report) (freeze.Options, func()) {
	o := freeze.Options{Dir: run}
	e, err := engine(ctx)
	switch {
	case err == nil:
		o.Engine = e
		return o, func() { _ = e.Close() } // only asked
	case !errors.Is(err, workload.ErrNoEngine):
		report(WarningOf("", fmt.Errorf("%w; cgroups and filesystems are thawed all the same", err)))
	}
	return o, func() {}
}

// Leftovers says what killed windows left that could not be recovered yet.
func (a *Agent) Leftovers() []string {
	left, err := freeze.Leftovers(a.Run)
	out := []string{}
	for _, l := range left {
		out = append(out, l.String()+": run snapd thaw")
	}
	if err != nil {
		out = append(out, err.Error())
	}
	return out
}
