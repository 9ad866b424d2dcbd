package agent

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"snapd/internal/advice"
	"snapd/internal/point"
	"snapd/internal/ship"
)

// DropOptions say which points to remove.
type DropOptions struct {
	Points []string // as people write them: ids, or their beginnings
	Last   bool     // also the last point of a group
	DryRun bool     // only say what would go
}

// Dropped is what became of the points.
type Dropped struct {
	Drop  []Verdict `json:"drop"`
	Keep  []Verdict `json:"keep"`  // snapshots that stay here for now
	Bytes int64     `json:"bytes"` // freed in the repositories
}

// LastOfGroup is the cause when a point is the last one of its group that can be
// restored from where it lies.
const LastOfGroup advice.Class = "last-of-group"

// Drop removes points that a person names: from the repositories, which keep a
// signed record of it, and here. A pinned one, and the last of a group, are
// refused, before anything is removed. Everything is looked at first: when a
// repository does not answer, nothing goes.
func (a *Agent) Drop(ctx context.Context, o DropOptions) (out Dropped, err error) {
	out = Dropped{Drop: []Verdict{}, Keep: []Verdict{}}
	for _, w := range o.Points {
		if isLatest(w) {
			return out, advice.With(advice.Usagef("%q is not the same point tomorrow", w), "name the point by its id, as snapd list shows it")
		}
	}
	d := &drop{agent: a, o: o, out: &out, local: a.points(), seats: pruneHere{agent: a}}
	defer func() { err = errors.Join(err, d.close()) }()
	for _, name := range a.repositoryNames("") {
		if err := d.open(ctx, name); err != nil {
			return out, fmt.Errorf("repository %s: %w", name, err)
		}
	}
	if err := d.choose(ctx); err != nil {
		return out, err
	}
	for _, in := range d.places {
		if err := d.from(ctx, in); err != nil {
			return out, fmt.Errorf("drop from repository %s: %w", in.name, err)
		}
	}
	return out, d.here(ctx)
}

// drop is one call of Drop.
type drop struct {
	agent   *Agent
	o       DropOptions
	out     *Dropped
	local   []point.Point
	places  []*dropPlace
	chosen  []point.Point
	orphans []orphan  // chosen too: snapshots that belong to no point any more
	seats   pruneHere // looks at each dataset once
}

// dropPlace is one repository. Its list of points is locked.
type dropPlace struct {
	name  string
	repo  *ship.Repository
	view  *ship.View
	cache *ship.Cache
	held  *lock
	ids   []point.ID // chosen, of those that it has
}

func (d *drop) open(ctx context.Context, name string) error {
	a := d.agent
	repo, view, cache, err := a.openView(ctx, name, ship.Known)
	if err != nil {
		return err
	}
	in := &dropPlace{name: name, repo: repo, view: view, cache: cache}
	d.places = append(d.places, in)
	if in.held, err = a.waitLock(ctx, pointsLock(repo), "the list of points in "+name, time.Minute); err != nil {
		return err
	}
	if in.view, err = repo.View(ctx, cache, ship.Known); err != nil { // as it is now that it is ours
		return err
	}
	if d.o.DryRun || a.OnlyRepositories {
		return nil
	}
	// A drop that was killed may not have written down here what it did there.
	d.local, err = a.reconcile(ctx, a.Config.Repositories[name], in.repo, in.view)
	return err
}

func (d *drop) close() error {
	var faults []error
	for _, in := range d.places {
		faults = append(faults, in.cache.Close(), in.held.release())
	}
	return errors.Join(faults...)
}

// choose finds the points.
func (d *drop) choose(ctx context.Context) error {
	points, views := d.local, map[string]*ship.View{}
	for _, in := range d.places {
		views[in.name] = in.view
		points = joinPoints(in.name, in.view.Points, points, d.agent.tags(in.repo, d.local, nil))
	}
	going := map[point.ID]bool{}
	for _, w := range d.o.Points {
		p, err := matchIn(points, w, views, d.agent.Now())
		if errors.Is(err, ErrNotThere) {
			if err = d.chooseOrphans(w, err); err == nil {
				continue
			}
		}
		if err != nil {
			return err
		}
		if !going[p.ID] {
			d.chosen = append(d.chosen, p)
		}
		going[p.ID] = true
	}
	return d.refuse(ctx, going)
}

// chooseOrphans is for snapshots that belong to no point any more, which have the
// id of the one that they were taken for; none is the error when there are none.
func (d *drop) chooseOrphans(wanted string, none error) error {
	if d.agent.OnlyRepositories {
		return none
	}
	found, err := d.agent.orphansOf(wanted)
	if err == nil && len(found) == 0 {
		err = none
	}
	d.orphans = append(d.orphans, found...)
	return err
}

// refuse is for what must stay, and sorts the rest to the repositories.
func (d *drop) refuse(ctx context.Context, going map[point.ID]bool) error {
	for _, p := range d.chosen {
		for _, in := range d.places {
			if _, there := in.view.Point(p.ID); !there {
				continue
			}
			if in.view.Pinned(p.ID) {
				return advice.With(advice.Usagef("point %s is pinned in %s", p.ID, in.name), "run: snapd unpin %s, if it may go", p.ID)
			}
			in.ids = append(in.ids, p.ID)
		}
	}
	if err := d.refuseLast(ctx, going); err != nil {
		return err
	}
	for _, in := range d.places {
		if len(in.ids) > 0 && len(in.ids) == len(in.view.Points) {
			return advice.With(advice.Usagef("repository %s holds nothing else: it would be empty", in.name), "if that is what you want, remove what lies there by hand")
		}
	}
	return nil
}

// from removes the chosen points from one repository. What is about to go is
// written down here before, so that after a crash it is not shipped again.
func (d *drop) from(ctx context.Context, in *dropPlace) error {
	if len(in.ids) == 0 {
		return nil
	}
	a := d.agent
	keep, err := a.unfinished(in.repo.ID, in.name)
	if err != nil {
		return err
	}
	for _, id := range in.ids {
		if d.o.DryRun || a.OnlyRepositories {
			break
		}
		err := a.rememberIfKnown(ctx, id, func(p *point.Point) {
			if !slices.Contains(p.Dropped, in.name) {
				p.Dropped = append(p.Dropped, in.name)
			}
		})
		if err != nil {
			return err
		}
	}
	pruned, err := in.repo.Prune(ctx, in.view, in.ids, ship.PruneOptions{Now: a.Now(), DryRun: d.o.DryRun, Keep: keep, Told: true})
	a.warnOf(in.name, pruned.Problems[min(1, len(pruned.Problems)):]) // the first is in the error
	if err != nil {
		return wayOut(err, pruned, in.name)
	}
	d.out.Bytes += pruned.Bytes
	for _, id := range in.ids {
		d.out.Drop = append(d.out.Drop, Verdict{ID: id, Where: in.name, Reason: "named"})
		if d.o.DryRun || a.OnlyRepositories {
			continue
		}
		if err := a.rememberIfKnown(ctx, id, func(p *point.Point) { p.Leave(in.name, true) }); err != nil {
			return err
		}
	}
	if !d.o.DryRun {
		a.noteLook(in.name, in.repo, in.view, in.cache, ship.Known)
	}
	return nil
}

// here removes the snapshots of the chosen points from this host, but for those
// that increments build on: they go when retention finds them of no use.
func (d *drop) here(ctx context.Context) error {
	a := d.agent
	if a.OnlyRepositories {
		return nil
	}
	var faults []error
	for _, p := range d.chosen {
		if !slices.ContainsFunc(d.local, func(l point.Point) bool { return l.ID == p.ID }) {
			continue
		}
		left, err := d.pointHere(ctx, p)
		if err != nil {
			faults = append(faults, fmt.Errorf("drop the snapshots of point %s: %w", p.ID, err))
		}
		if left || d.o.DryRun {
			continue
		}
		faults = append(faults, a.forget(ctx, p.ID))
	}
	for _, o := range d.orphans {
		faults = append(faults, d.orphan(ctx, o))
	}
	return errors.Join(faults...)
}

func (d *drop) orphan(ctx context.Context, o orphan) error {
	if !d.o.DryRun {
		if err := d.agent.remove(ctx, o); err != nil {
			return fmt.Errorf("drop the snapshot %s: %w", o.Name, err)
		}
		if err := d.agent.forgetOrphan(o.GUID); err != nil {
			return err
		}
	}
	d.out.Drop = append(d.out.Drop, Verdict{ID: o.id(), Where: "here", Reason: o.Dataset.Name + ": named, and belonged to no restore point"})
	return nil
}

func (d *drop) pointHere(ctx context.Context, p point.Point) (left bool, err error) {
	if in := d.elsewhere(p); in != "" {
		d.out.Keep = append(d.out.Keep, Verdict{ID: p.ID, Where: "here", Reason: "repository " + in + " has the point, and was not asked"})
		return true, nil
	}
	var faults []error
	for _, ds := range p.Datasets {
		s, err := d.seats.seat(ctx, ds)
		switch {
		case err != nil:
			faults, left = append(faults, err), true
			continue
		case s.unseen:
			left = true
			continue
		case s.snap == nil:
			continue
		}
		if in := d.baseIn(ds); in != "" {
			d.out.Keep = append(d.out.Keep, Verdict{ID: p.ID, Where: "here", Reason: fmt.Sprintf("%s: streams in %s build on it; retention removes it", ds.Dataset, in)})
			left = true
			continue
		}
		d.out.Drop = append(d.out.Drop, Verdict{ID: p.ID, Where: "here", Reason: ds.Dataset + ": named"})
		if d.o.DryRun {
			continue
		}
		if err := s.driver.Delete(ctx, *s.snap); err != nil {
			faults, left = append(faults, err), true
		}
	}
	return left, errors.Join(faults...)
}

// elsewhere is a repository that holds the point and was not looked at, because
// the call named another one.
func (d *drop) elsewhere(p point.Point) string {
	for _, name := range slices.Sorted(maps.Keys(p.Numbers)) {
		if !slices.ContainsFunc(d.places, func(in *dropPlace) bool { return in.name == name }) {
			return name
		}
	}
	return ""
}

// baseIn is a repository in which something still needs the stream of that
// snapshot.
func (d *drop) baseIn(ds point.Dataset) string {
	for _, in := range d.places {
		for _, s := range in.view.Streams() {
			if s.Origin != ds.Origin || s.GUID != ds.GUID {
				continue
			}
			if !d.o.DryRun || d.neededByOthers(in, s.ID) {
				return in.name
			}
		}
	}
	return ""
}

// neededByOthers tells, before anything is dropped, whether a point that stays
// needs a stream.
func (d *drop) neededByOthers(in *dropPlace, stream point.ID) bool {
	for _, r := range in.view.Points {
		if slices.Contains(in.ids, r.ID) {
			continue
		}
		for _, s := range r.Streams {
			for id, steps := s.Stream, 0; id != "" && steps < len(in.view.Streams())+1; steps++ {
				if id == stream {
					return true
				}
				ref, _ := in.view.Stream(id)
				id = ref.Base
			}
		}
	}
	return false
}
