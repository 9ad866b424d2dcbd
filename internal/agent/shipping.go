package agent

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"snapd/internal/advice"
	"snapd/internal/fs"
	"snapd/internal/point"
	"snapd/internal/workload"
)

// Ship streams to the repositories of the groups what they lack, oldest
// points first. No names means all groups. The points returned are those that
// had something to ship. A fault with one point does not keep the others back.
func (a *Agent) Ship(ctx context.Context, names []string) ([]point.Point, error) {
	repos := a.repositories()
	defer repos.close()
	return (&shipping{Agent: a, repos: repos}).groups(ctx, names)
}

// shipping is one operation that ships.
type shipping struct {
	*Agent
	repos   *repositories
	passing bool // leaves out groups that ship nowhere, for a run that does with each group what there is to do
	told    bool // which groups cannot be used was said before
	full    bool // the next stream of each dataset builds on nothing
	// lossAccepted says that a person said so, and that it will be written down.
	lossAccepted bool
	begun        map[string]bool // datasets with a full stream of this operation, by repository
}

func (a *shipping) groups(ctx context.Context, names []string) ([]point.Point, error) {
	s, groups, unusable, err := a.lookForKept(ctx, names, true)
	if err != nil {
		return nil, err
	}
	defer s.close() //nolint:errcheck // only read from
	a.tendStorage(ctx)
	var faults []error
	if !a.told {
		faults = append(faults, unusable)
	}
	var to []shipment
	for _, g := range groups {
		if len(g.Repositories) == 0 && !a.passing {
			err := advice.With(advice.Usagef("group %s names no repository to ship to", g.Name),
				"add a [repository.NAME] to %s, then run: snapd init", a.Config.File)
			a.noteOutcome(ctx, g.Name, StepShip, err)
			faults = append(faults, err)
		}
		if len(g.Repositories) > 0 {
			to = append(to, shipment{group: g, left: slices.Clone(g.Repositories)})
		}
	}
	out, err := a.shipments(ctx, to)
	return out, errors.Join(append(faults, err)...)
}

// shipment is what one group has yet to ship.
type shipment struct {
	group workload.Group
	left  []string // repositories
	err   error
}

// shipments ships all groups to their repositories, group by group to those that
// answer: what waits for a repository comes after what can be shipped.
func (a *shipping) shipments(ctx context.Context, all []shipment) ([]point.Point, error) {
	var names []string
	has := map[string]bool{}
	for _, p := range a.points() {
		has[p.Group] = true
	}
	for i := range all {
		if !has[all[i].group.Name] { // nothing of it can be shipped: no repository is asked
			a.noteOutcome(ctx, all[i].group.Name, StepShip, nil)
			all[i].left = nil
		}
		names = append(names, all[i].left...)
	}
	done := map[point.ID]point.Point{}
	for name := range a.repos.asTheyAnswer(ctx, names) {
		if ctx.Err() != nil {
			break
		}
		i := slices.IndexFunc(all, func(s shipment) bool { return slices.Contains(s.left, name) })
		s := &all[i]
		points, err := a.shipTo(ctx, s.group, name)
		for _, p := range points {
			done[p.ID] = p
		}
		if err != nil {
			a.repos.told[name] = err.Error()
			s.err = errors.Join(s.err, fmt.Errorf("ship group %s to %s: %w", s.group.Name, name, err))
		}
		if s.left = slices.DeleteFunc(s.left, func(r string) bool { return r == name }); len(s.left) == 0 {
			a.noteOutcome(ctx, s.group.Name, StepShip, s.err)
		}
	}
	var faults []error
	for _, s := range all {
		faults = append(faults, s.err)
	}
	return slices.SortedFunc(maps.Values(done), byIDOrder), errors.Join(append(faults, ctx.Err())...)
}

// noRepository says that a repository of that name is not configured.
func (a *Agent) noRepository(name string) error {
	return advice.With(advice.Usagef("there is no [repository.%s]", name), "add it to %s, or name one that is there", a.Config.File)
}

func byIDOrder(a, b point.Point) int { return cmp.Compare(a.ID, b.ID) }

// shipTo ships all points of a group that one repository lacks, and heals
// before what is damaged there.
func (a *shipping) shipTo(ctx context.Context, g workload.Group, repository string) (out []point.Point, err error) {
	o, err := a.repos.get(ctx, repository)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			a.repos.failed(repository, err)
		}
	}()
	if err := a.checkWriters(o); err != nil {
		return nil, err
	}
	if _, err := a.reconcile(ctx, a.Config.Repositories[repository], o.repo, o.view); err != nil {
		return nil, err
	}
	healed, _, err := a.healIn(ctx, o, g)
	if err != nil {
		return healed, err
	}
	shipped, fault := a.waiting(ctx, o, g)
	if o.noted && ctx.Err() == nil { // a base was found damaged on the way
		more, _, err := a.healIn(ctx, o, g)
		healed, fault = append(healed, more...), errors.Join(fault, err)
	}
	if a.full && fault == nil && len(shipped) == 0 {
		shipped, fault = a.fullAgain(ctx, o, g)
	}
	out = slices.Concat(healed, shipped)
	if ctx.Err() == nil {
		a.extendLocks(ctx, o, g, out)
	}
	if ctx.Err() == nil {
		fault = errors.Join(fault, a.giveUp(ctx, o), a.tellLost(ctx, o, g), a.unhealed(o, g))
	}
	return out, fault
}

// waiting ships the points that a repository lacks.
func (a *shipping) waiting(ctx context.Context, o *opened, g workload.Group) ([]point.Point, error) {
	var out []point.Point
	var faults []error
	tried := map[point.ID]bool{}
	damaged := false
	for {
		// A process that took a point meanwhile found us shipping its dataset, and
		// left it to us.
		waiting := slices.DeleteFunc(unshipped(a.points(), g.Name, o.name), func(p point.Point) bool { return tried[p.ID] })
		if len(waiting) == 0 {
			return out, errors.Join(faults...)
		}
		for i, p := range waiting {
			tried[p.ID] = true
			if damaged && i < len(waiting)-1 {
				continue
			}
			p, err := a.point(ctx, o, g, p)
			if err == nil {
				out = append(out, p)
				continue
			}
			faults = append(faults, fmt.Errorf("point %s: %w", p.ID, err))
			switch {
			case ctx.Err() == nil && errors.Is(err, fs.ErrNotFound):
			case ctx.Err() == nil && errors.Is(err, fs.ErrUnreadable) && !damaged:
				// A file that was damaged is in this point for ever, and may have been
				// replaced since: the newest one shows it, and is the one that counts.
				damaged = true
			default:
				return out, errors.Join(faults...) // the next point would fail the same way
			}
		}
	}
}

// unshipped are the points of a group that a repository does not hold whole.
func unshipped(points []point.Point, group, repository string) []point.Point {
	return slices.DeleteFunc(slices.Clone(points), func(p point.Point) bool { return p.Group != group || !p.Awaits(repository) })
}
