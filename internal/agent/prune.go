package agent

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"snapd/internal/config"
	"snapd/internal/point"
	"snapd/internal/retain"
	"snapd/internal/ship"
	"snapd/internal/workload"
)

// Verdict says what becomes of a point at one place, and why.
type Verdict struct {
	ID     point.ID `json:"id"`
	Where  string   `json:"where"` // "here" or the name of a repository
	Reason string   `json:"reason"`
}

// Pruned is what a prune kept and dropped, or would.
type Pruned struct {
	Keep []Verdict `json:"keep"`
	Drop []Verdict `json:"drop"`
}

func (p *Pruned) add(keep bool, id point.ID, where, format string, args ...any) {
	v := Verdict{ID: id, Where: where, Reason: fmt.Sprintf(format, args...)}
	if keep {
		p.Keep = append(p.Keep, v)
	} else {
		p.Drop = append(p.Drop, v)
	}
}

// Prune applies the retention of the groups, in the repositories and here. No
// names means all groups.
func (a *Agent) Prune(ctx context.Context, names []string, dryRun bool) (Pruned, error) {
	repos := a.repositories()
	defer repos.close()
	return a.prune(ctx, repos, names, dryRun)
}

func (a *Agent) prune(ctx context.Context, repos *repositories, names []string, dryRun bool) (Pruned, error) {
	out := Pruned{Keep: []Verdict{}, Drop: []Verdict{}}
	s, groups, err := a.lookFor(ctx, names)
	if err != nil {
		return out, err
	}
	defer s.close() //nolint:errcheck // only read from
	if !dryRun {
		a.sweepStorage(ctx)
	}
	var faults []error
	views := map[string]*ship.View{}
	for _, name := range a.usedRepositories(groups) {
		view, err := a.pruneRepository(ctx, repos, name, groups, &out, dryRun)
		if err != nil {
			faults = append(faults, fmt.Errorf("prune repository %s: %w", name, err))
			continue
		}
		views[name] = view
	}
	for _, g := range groups {
		h := pruneHere{agent: a, group: g, views: views, out: &out, dryRun: dryRun}
		if err := errors.Join(h.points(ctx), h.strays(ctx, s)); err != nil {
			faults = append(faults, fmt.Errorf("prune the snapshots of group %s: %w", g.Name, err))
		}
	}
	return out, errors.Join(faults...)
}

func (a *Agent) usedRepositories(groups []workload.Group) []string {
	var out []string
	for _, g := range groups {
		for _, r := range g.Repositories {
			if !slices.Contains(out, r) {
				out = append(out, r)
			}
		}
	}
	slices.Sort(out)
	return out
}

// pruneRepository drops points there and returns the view as it is after. It
// holds the same lock as the commit of a point does.
func (a *Agent) pruneRepository(ctx context.Context, repos *repositories, name string, groups []workload.Group, out *Pruned, dryRun bool) (_ *ship.View, err error) {
	conf := a.Config.Repositories[name]
	o, err := repos.get(ctx, name)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			repos.forget(name)
		}
	}()
	held, err := a.waitLock(ctx, pointsLock(o.repo), "the list of points in "+name, time.Minute)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, held.release()) }()
	local := a.points()
	if !dryRun {
		if local, err = a.reconcile(ctx, conf, o.view); err != nil {
			return nil, err
		}
	}
	a.warnOf(name, o.view.Problems)
	if !conf.Prune {
		return o.view, nil
	}
	if o.cache.Seen().Put > 0 { // it ships there, so that nobody else does
		if err := a.checkWriters(o); err != nil {
			return nil, err
		}
	}
	drop, err := a.decide(joinPoints(name, o.view.Points, local, a.tags(o.repo, local, groups)), o, groups, out)
	if err != nil {
		return nil, err
	}
	return o.view, a.drop(ctx, o.repo, o.view, conf, drop, dryRun)
}

// drop removes points. It writes down before what it is about to do, so that
// after a crash nobody takes a removed point for one that was lost.
func (a *Agent) drop(ctx context.Context, repo *ship.Repository, view *ship.View, conf config.Repository, drop []point.ID, dryRun bool) error {
	keep, err := a.unfinished(repo.ID, conf.Name)
	if err != nil {
		return err
	}
	for _, id := range drop {
		if dryRun {
			break
		}
		if err := a.rememberIfKnown(ctx, id, func(p *point.Point) {
			if !slices.Contains(p.Dropped, conf.Name) {
				p.Dropped = append(p.Dropped, conf.Name)
			}
		}); err != nil {
			return err
		}
	}
	pruned, err := repo.Prune(ctx, view, drop, ship.PruneOptions{Now: a.Now(), DryRun: dryRun, Keep: keep})
	a.warnOf(conf.Name, pruned.Problems)
	if err != nil || dryRun {
		return err
	}
	for _, id := range drop {
		if err := a.rememberIfKnown(ctx, id, func(p *point.Point) { p.Leave(conf.Name, true) }); err != nil {
			return err
		}
	}
	return nil
}

func (a *Agent) warnOf(repository string, problems []ship.Problem) {
	for _, p := range problems {
		a.warn("", "repository %s: %s: %s", repository, p.Object, p.Problem)
	}
}

// decide asks retain for each group which of the points in a repository go.
func (a *Agent) decide(points []point.Point, o *opened, groups []workload.Group, out *Pruned) ([]point.ID, error) {
	var drop []point.ID
	name, newest := o.name, int64(0)
	if n := len(o.view.Points); n > 0 {
		newest = o.view.Points[n-1].Number
	}
	for _, g := range groups {
		if !slices.Contains(g.Repositories, name) {
			continue
		}
		numbers := map[point.ID]int64{}
		var candidates []retain.Candidate
		for _, p := range points {
			if p.Group == g.Name && p.InRepository(name) {
				candidates = append(candidates, retain.Candidate{ID: p.ID, Time: p.Time, Order: o.view.Order(p.ID)})
				numbers[p.ID] = p.Numbers[name]
			}
		}
		decisions, err := retain.Apply(retain.Policy(g.Keep), candidates, a.Now())
		if err != nil {
			return nil, fmt.Errorf("group %s: %w", g.Name, err)
		}
		for _, d := range decisions {
			if !d.Keep && numbers[d.ID] == newest {
				d.Keep, d.Reason = true, "the last one that was put there"
			}
			out.add(d.Keep, d.ID, name, "%s", d.Reason)
			if !d.Keep {
				drop = append(drop, d.ID)
			}
		}
	}
	return drop, nil
}

// unfinished are the streams that no point names yet: those being uploaded,
// with what they build on, and those of points that are not whole yet.
// Whoever cannot tell them must not prune.
func (a *Agent) unfinished(repository, name string) ([]point.ID, error) {
	keep, err := a.records.Keep(repository)
	if err != nil {
		return nil, err
	}
	points, err := a.record.All()
	if err != nil {
		return nil, err
	}
	for _, p := range points {
		for _, s := range p.Shipped {
			if s.Repository == name && !p.InRepository(name) {
				keep = append(keep, s.Stream)
			}
		}
	}
	return keep, nil
}

func (a *Agent) rememberIfKnown(ctx context.Context, id point.ID, change func(*point.Point)) error {
	_, err := a.remember(ctx, id, change)
	if errors.Is(err, point.ErrUnknown) {
		return nil
	}
	return err
}

func shortDuration(d time.Duration) string {
	const day = 24 * time.Hour
	switch {
	case d >= 2*day && d%day == 0:
		return fmt.Sprintf("%d days", d/day)
	case d >= time.Hour && d%time.Hour == 0:
		return fmt.Sprintf("%d h", d/time.Hour)
	}
	return d.String()
}
