package agent

import (
	"context"
	"fmt"

	"snapd/internal/point"
	"snapd/internal/workload"
)

// extendLocks locks what the points that were just shipped build on for as long
// as they are locked themselves, where the store locks what is put. They are
// shipped all the same when that fails: then it is tried with the next ship, and
// doctor says until when what lies there is locked.
func (a *shipping) extendLocks(ctx context.Context, o *opened, g workload.Group, points []point.Point) {
	var streams []point.ID
	for _, p := range points {
		for _, s := range p.Shipped {
			if s.Repository == o.name {
				streams = append(streams, s.Stream)
			}
		}
	}
	done, err := o.repo.ExtendLocks(ctx, o.view, streams, a.Now())
	switch {
	case err != nil && ctx.Err() == nil:
		a.warnOfError(g.Name, fmt.Errorf("repository %s: %w", o.name, err))
	case done.Refused != nil && !done.Again: // doctor says it each time it is asked
		a.warnOfError(g.Name, fmt.Errorf("repository %s: locks cannot be extended, so that what restore points build on is locked for a shorter time than they are: %w", o.name, done.Refused))
	case done.Objects > 0:
		a.step(g.Name, "repository %s: %s that later restore points build on: locked until %s", o.name,
			plural(done.Objects, "object", "objects"), done.Until.Format("2006-01-02"))
	}
}
