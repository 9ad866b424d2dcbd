package agent

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"snapd/internal/fs"
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
	out := Pruned{Keep: []Verdict{}, Drop: []Verdict{}}
	s, err := a.look(ctx)
	if err != nil {
		return out, err
	}
	defer s.close() //nolint:errcheck // only read from
	groups, err := s.pick(names)
	if err != nil {
		return out, err
	}
	var faults []error
	indexes := map[string]*ship.Index{}
	for _, name := range a.usedRepositories(groups) {
		index, err := a.pruneRepository(ctx, name, groups, &out, dryRun)
		if err != nil {
			faults = append(faults, fmt.Errorf("prune repository %s: %w", name, err))
			continue
		}
		indexes[name] = index
	}
	for _, g := range groups {
		if err := a.pruneHere(ctx, g, indexes, &out, dryRun); err != nil {
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

// pruneRepository drops points there and returns the index as it is after.
func (a *Agent) pruneRepository(ctx context.Context, name string, groups []workload.Group, out *Pruned, dryRun bool) (_ *ship.Index, err error) {
	conf := a.Config.Repositories[name]
	held, err := a.tryLock("prune-"+name, "the prune of "+name)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, held.release()) }()
	repo, err := a.Open(ctx, conf, a.Report)
	if err != nil {
		return nil, err
	}
	index, err := repo.Index(ctx)
	if err != nil || !conf.Prune {
		return index, err
	}
	records, problems, err := repo.Points(ctx, index)
	if err != nil {
		return nil, err
	}
	for _, p := range problems {
		a.warn("", "repository %s: %s: %s", name, p.Object, p.Problem)
	}
	local := a.points()
	drop, err := a.decide(joinPoints(name, records, local), name, groups, out)
	if err != nil {
		return nil, err
	}
	if _, err := repo.Prune(ctx, drop, ship.PruneOptions{Now: a.Now(), DryRun: dryRun, Keep: a.unfinished()}); err != nil || dryRun {
		return index, err
	}
	for _, id := range drop {
		if err := a.forgetIn(ctx, id, name); err != nil {
			return nil, err
		}
	}
	return repo.Index(ctx)
}

// decide asks retain for each group which of the points in a repository go.
func (a *Agent) decide(points []point.Point, name string, groups []workload.Group, out *Pruned) ([]point.ID, error) {
	var drop []point.ID
	for _, g := range groups {
		if !slices.Contains(g.Repositories, name) {
			continue
		}
		var candidates []retain.Candidate
		for _, p := range points {
			if p.Group == g.Name && p.InRepository(name) {
				candidates = append(candidates, retain.Candidate{ID: p.ID, Time: p.Time})
			}
		}
		decisions, err := retain.Apply(retain.Policy(g.Keep), candidates, a.Now())
		if err != nil {
			return nil, fmt.Errorf("group %s: %w", g.Name, err)
		}
		for _, d := range decisions {
			out.add(d.Keep, d.ID, name, "%s", d.Reason)
			if !d.Keep {
				drop = append(drop, d.ID)
			}
		}
	}
	return drop, nil
}

// unfinished are the streams whose ship was begun: their segments have no
// manifest yet, and are not garbage.
func (a *Agent) unfinished() []point.ID {
	heads, err := a.records.Active()
	if err != nil {
		a.warn("", "%v", err)
	}
	ids := make([]point.ID, len(heads))
	for i, h := range heads {
		ids[i] = h.Stream
	}
	return ids
}

// forgetIn writes down that a point no longer lies in a repository, and
// forgets it wholly when it lies nowhere else.
func (a *Agent) forgetIn(ctx context.Context, id point.ID, name string) error {
	_, err := a.remember(ctx, id, func(p *point.Point) {
		delete(p.Numbers, name)
		p.Shipped = slices.DeleteFunc(p.Shipped, func(s point.Shipped) bool { return s.Repository == name })
		p.Dropped = append(p.Dropped, name)
	})
	if errors.Is(err, point.ErrUnknown) {
		return nil
	}
	return err
}

// pruneHere removes snapshots of this host that nothing needs any more.
func (a *Agent) pruneHere(ctx context.Context, g workload.Group, indexes map[string]*ship.Index, out *Pruned, dryRun bool) error {
	all := a.points()
	points := slices.DeleteFunc(all, func(p point.Point) bool { return p.Group != g.Name })
	var faults []error
	for i, p := range points {
		kept := 0
		newest := i == len(points)-1
		for _, d := range p.Datasets {
			gone, err := a.pruneDataset(ctx, g, p, d, newest, indexes, out, dryRun)
			if err != nil {
				faults = append(faults, fmt.Errorf("%s: %w", d.Dataset, err))
			}
			if !gone {
				kept++
			}
		}
		if kept == 0 && len(p.Numbers) == 0 && !dryRun {
			faults = append(faults, a.record.Delete(p.ID))
		}
	}
	return errors.Join(faults...)
}

// pruneDataset decides on one snapshot, and tells whether it is gone.
func (a *Agent) pruneDataset(ctx context.Context, g workload.Group, p point.Point, d point.Dataset, newest bool, indexes map[string]*ship.Index, out *Pruned, dryRun bool) (gone bool, err error) {
	driver, err := a.driver(d.Driver)
	if err != nil {
		return false, err
	}
	snaps, err := driver.Snapshots(ctx, datasetOf(d))
	if errors.Is(err, fs.ErrNotFound) {
		return true, nil
	}
	if err != nil {
		return false, err
	}
	snap := snapshotWith(snaps, d.GUID)
	if snap == nil {
		return true, nil
	}
	if reason := a.needHere(g, p, d, newest, indexes); reason != "" {
		out.add(true, p.ID, "here", "%s: %s", d.Dataset, reason)
		return false, nil
	}
	out.add(false, p.ID, "here", "%s: older than keep-local, and in every repository", d.Dataset)
	if dryRun {
		return false, nil
	}
	return true, driver.Delete(ctx, *snap)
}

// needHere says why a snapshot has to stay on this host, or "".
func (a *Agent) needHere(g workload.Group, p point.Point, d point.Dataset, newest bool, indexes map[string]*ship.Index) string {
	if newest {
		return "newest point of its group"
	}
	if age := a.Now().Sub(p.Time); age < g.KeepLocal {
		return fmt.Sprintf("younger than %s", shortDuration(g.KeepLocal))
	}
	for _, name := range g.Repositories {
		if p.Awaits(name) {
			return "not yet shipped to " + name
		}
		index, known := indexes[name]
		if !known {
			return "repository " + name + " does not say what it has"
		}
		if retain.Needed(chainOf(streamsOf(index, d.Origin)))[d.GUID] {
			return "base of the next increments in " + name
		}
	}
	return ""
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
