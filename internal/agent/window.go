package agent

import (
	"context"
	"errors"
	"fmt"

	"snapd/internal/advice"
	"snapd/internal/freeze"
	"snapd/internal/workload"
)

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
