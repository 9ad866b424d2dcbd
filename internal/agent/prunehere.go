package agent

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"snapd/internal/fs"
	"snapd/internal/point"
	"snapd/internal/retain"
	"snapd/internal/ship"
	"snapd/internal/workload"
)

// pruneHere removes snapshots of one group from this host that nothing needs
// any more.
type pruneHere struct {
	agent  *Agent
	group  workload.Group
	views  map[string]*ship.View // of the repositories that answered
	out    *Pruned
	dryRun bool
	repos  *repositories   // in which the views are open; nil: what is built upon is not asked
	taken  map[string]bool // origins of the datasets that more points are to be expected of; nil: all

	places map[string]*spot  // by dataset
	facts  map[string]*facts // by repository and dataset
}

// spot is one dataset of this host, looked at once.
type spot struct {
	driver fs.Driver
	local  map[string]fs.Snapshot // all of ours of that dataset, by guid
	marked map[string]bool        // guids that serve as bases without their snapshots
	unseen bool                   // the dataset is not there: deleted, or its filesystem is not mounted
}

// facts are what a repository says of the snapshots of a dataset, by guid.
type facts struct {
	bases   map[string]bool // that the next increments want to find here
	damaged map[string]bool // of streams that are damaged there
}

// seat is where the snapshot of one dataset of a point is on this host.
type seat struct {
	*spot
	dataset point.Dataset
	snap    *fs.Snapshot // nil: gone, or not to be seen now
}

// seat looks where the snapshot of one dataset is.
func (h *pruneHere) seat(ctx context.Context, d point.Dataset) (seat, error) {
	p, err := h.place(ctx, datasetOf(d))
	if err != nil {
		return seat{}, err
	}
	s := seat{spot: p, dataset: d}
	if snap, there := p.local[d.GUID]; there {
		s.snap = &snap
	}
	return s, nil
}

// place looks at a dataset, or remembers how it was.
func (h *pruneHere) place(ctx context.Context, d fs.Dataset) (*spot, error) {
	key := d.Driver + " " + d.Name + " " + d.GUID
	if p := h.places[key]; p != nil {
		return p, nil
	}
	driver, err := h.agent.driver(d.Driver)
	if err != nil {
		return nil, err
	}
	p := &spot{driver: driver, local: map[string]fs.Snapshot{}}
	snaps, err := driver.Snapshots(ctx, d)
	switch {
	case errors.Is(err, fs.ErrNotFound):
		p.unseen = true
	case err != nil:
		return nil, err
	default:
		if p.marked, err = bookmarks(ctx, driver, d); err != nil {
			return nil, err
		}
	}
	for _, s := range snaps {
		p.local[s.GUID] = s
	}
	if h.places == nil {
		h.places = map[string]*spot{}
	}
	h.places[key] = p
	return p, nil
}

// ask is what a repository says of a dataset. What is not on this host any more
// is no base for anything, so that of what is, the next best stays.
func (h *pruneHere) ask(name string, view *ship.View, origin string, p *spot) *facts {
	key := name + " " + origin
	if f := h.facts[key]; f != nil {
		return f
	}
	streams := slices.DeleteFunc(streamsOf(view, origin), func(s ship.StreamRef) bool {
		_, here := p.local[s.GUID]
		return !p.unseen && !here && !p.marked[s.GUID]
	})
	f := &facts{bases: h.bases(name, origin, streams), damaged: map[string]bool{}}
	for _, d := range view.Damage() {
		if s, known := view.Stream(d.Stream); known && s.Origin == origin {
			f.damaged[s.GUID] = true
		}
	}
	if h.facts == nil {
		h.facts = map[string]*facts{}
	}
	h.facts[key] = f
	return f
}

// points decides on the snapshots of each point, and forgets a point that
// lies nowhere any more.
func (h *pruneHere) points(ctx context.Context) error {
	a := h.agent
	points := slices.DeleteFunc(a.points(), func(p point.Point) bool { return p.Group != h.group.Name })
	only, err := h.onlyHere(ctx, points)
	if err != nil {
		return err
	}
	newest := point.ID("")
	if len(points) > 0 {
		newest = newestOf(points, nil, a.Now()).ID
	}
	var faults []error
	for _, p := range points {
		why := only[p.ID]
		switch {
		case p.ID == newest:
			why = "newest point of its group"
		case InFuture(p, a.Now()):
			why = "lies in the future: a clock was wrong"
		}
		left, err := h.point(ctx, p, why)
		if err != nil {
			faults = append(faults, err)
		} else if left == 0 && len(p.Numbers) == 0 && !h.dryRun {
			faults = append(faults, a.forget(ctx, p.ID))
		}
	}
	faults = append(faults, h.tidy(ctx, points))
	return errors.Join(faults...)
}

// onlyHere applies the policy for repositories to a group that has none:
// nothing else keeps its points. It gives a reason for each that stays.
func (h *pruneHere) onlyHere(ctx context.Context, points []point.Point) (map[point.ID]string, error) {
	keep := map[point.ID]string{}
	if len(h.group.Repositories) > 0 {
		return keep, nil
	}
	x := h.agent.acceptedOf(h.group.Name)
	var candidates []retain.Candidate
	for _, p := range points {
		torn := slices.ContainsFunc(p.Datasets, func(d point.Dataset) bool {
			s, err := h.seat(ctx, d)
			return err == nil && s.snap == nil && !s.unseen
		})
		candidates = append(candidates, retain.Candidate{ID: p.ID, Time: p.Time, Has: x.whole(p, originsOf(p)), Torn: torn})
	}
	decisions, err := retain.ApplyEach(retain.Policy(h.group.Keep), candidates, x.counts(candidates), h.agent.Now())
	for _, d := range decisions {
		if d.Keep {
			keep[d.ID] = d.Reason + ", and no repository has it"
		}
	}
	return keep, err
}

// point decides on the snapshots of one point, and counts those that stay.
func (h *pruneHere) point(ctx context.Context, p point.Point, why string) (left int, err error) {
	var seats []seat
	torn := false
	for _, d := range p.Datasets {
		s, err := h.seat(ctx, d)
		if err != nil {
			return 0, fmt.Errorf("%s: %w", d.Dataset, err)
		}
		torn = torn || s.snap == nil && !s.unseen
		seats = append(seats, s)
	}
	var faults []error
	for _, s := range seats {
		reason := why
		if reason == "" {
			reason = h.need(p, s, torn)
		}
		switch {
		case s.snap == nil && !s.unseen:
			continue
		case reason != "":
			h.out.add(true, p.ID, "here", "%s: %s", s.dataset.Dataset, reason)
			left++
		case s.unseen: // nothing to remove, and nothing that would be missed
		default:
			stays, err := h.remove(ctx, p, s, torn)
			if stays {
				left++
			}
			faults = append(faults, err)
		}
	}
	return left, errors.Join(faults...)
}

// remove removes a snapshot that nothing needs, and tells whether it stays all the
// same. One that is in use keeps no other from going, and is no fault.
func (h *pruneHere) remove(ctx context.Context, p point.Point, s seat, torn bool) (stays bool, err error) {
	if !h.dryRun {
		err = s.driver.Delete(ctx, *s.snap)
	}
	if errors.Is(err, fs.ErrBusy) && ctx.Err() == nil {
		h.agent.warnOfError(h.group.Name, fmt.Errorf("a snapshot of point %s stays until a later prune: %w", p.ID, err))
		h.out.add(true, p.ID, "here", "%s: in use", s.dataset.Dataset)
		return true, nil
	}
	h.out.add(false, p.ID, "here", "%s: older than keep-local, and %s", s.dataset.Dataset, h.elsewhere(torn))
	if err != nil {
		return true, fmt.Errorf("%s: %w", s.dataset.Dataset, err)
	}
	if !h.dryRun {
		delete(s.local, s.snap.GUID)
	}
	return h.dryRun, nil
}

func (h *pruneHere) elsewhere(torn bool) string {
	switch {
	case len(h.group.Repositories) == 0:
		return "no rule keeps it"
	case torn:
		return "of no use: the snapshot of another dataset of the point is gone"
	}
	return "in every repository, or dropped there"
}

// need says why a snapshot has to stay on this host, or "". What a repository
// has is what it lists, not what the record says. torn: the point can never be
// shipped whole any more.
func (h *pruneHere) need(p point.Point, s seat, torn bool) string {
	if age := h.agent.Now().Sub(p.Time); age < time.Duration(h.group.KeepLocal) {
		return fmt.Sprintf("younger than %s", shortDuration(time.Duration(h.group.KeepLocal)))
	}
	for _, name := range h.group.Repositories {
		view, known := h.views[name]
		dropped := slices.Contains(p.Dropped, name) || known && droppedIn(p, name, view)
		switch {
		case !known && (torn || dropped || p.InRepository(name)):
			return "repository " + name + " does not say what it has"
		case !known || !listed(p, view) && !dropped && !torn:
			return "not yet shipped to " + name
		case listed(p, view) && !wholeIn(p, view):
			return "damaged in " + name + ": see snapd verify"
		case h.ask(name, view, s.dataset.Origin, s.spot).damaged[s.dataset.GUID]:
			return "damaged in " + name + ": the next ship heals it from here"
		case h.isBase(name, view, s.dataset.Origin, s.dataset.GUID, s.spot):
			return "base of the next increments in " + name
		}
	}
	return ""
}

// isBase tells whether the next increments want to find a snapshot here.
func (h *pruneHere) isBase(name string, view *ship.View, origin, guid string, p *spot) bool {
	return !p.marked[guid] && h.ask(name, view, origin, p).bases[guid] // a bookmark serves as well
}

// forget removes a point from the record, unless a ship of it is going on.
func (a *Agent) forget(ctx context.Context, id point.ID) (err error) {
	held, err := a.waitLock(ctx, "record", "the local record", time.Minute)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, held.release()) }()
	if p, err := a.record.Get(id); err != nil || len(p.Numbers) > 0 {
		return nil // forgotten meanwhile, shipped meanwhile, or unreadable: it stays
	}
	return a.record.Delete(id)
}

// strays removes snapshots of ours that no record knows: the record was lost.
// What a repository has and no increment will build on can go.
func (h *pruneHere) strays(ctx context.Context, s *scene) error {
	a := h.agent
	all, err := a.record.All()
	if err != nil || a.OnlyRepositories || len(h.views) < len(a.Config.Repositories) {
		return nil //nolint:nilerr // a host that does not know everything removes nothing
	}
	known := map[string]bool{}
	for _, p := range all {
		for _, d := range p.Datasets {
			known[d.GUID] = true
		}
	}
	r, err := a.resolve(ctx, s, h.group)
	if err != nil {
		return nil //nolint:nilerr // what the group is now is not known; a snapshot of it says why
	}
	var faults []error
	for _, d := range r.datasets {
		if h.taken != nil {
			h.taken[d.GUID] = true // though no record says so
		}
		p, err := h.place(ctx, d)
		if err != nil {
			return err
		}
		for _, guid := range slices.Sorted(maps.Keys(p.local)) {
			if !known[guid] {
				faults = append(faults, h.stray(ctx, p.local[guid], p))
			}
		}
	}
	return errors.Join(faults...)
}

// strayAge is how old a snapshot without a record has to be: younger, and it
// is being taken.
const strayAge = time.Hour

func (h *pruneHere) stray(ctx context.Context, snap fs.Snapshot, p *spot) error {
	at, name, err := fs.ParseSnapshotName(snap.Name)
	id, idErr := point.ParseID(name)
	if err != nil || idErr != nil || h.agent.Now().Sub(at) < max(time.Duration(h.group.KeepLocal), strayAge) {
		return nil //nolint:nilerr // not made by us, or too young
	}
	shipped := false
	for name, view := range h.views {
		ref, there := view.BySnapshot(snap.Dataset.GUID, snap.GUID)
		shipped = shipped || there && view.Whole(ref.ID)
		if h.isBase(name, view, snap.Dataset.GUID, snap.GUID, p) {
			h.out.add(true, id, "here", "%s: not in the local record, but base of the next increments in %s", snap.Dataset.Name, name)
			return nil
		}
	}
	if !shipped {
		return nil // an orphan, see pruneOrphans
	}
	h.out.add(false, id, "here", "%s: not in the local record, and in a repository", snap.Dataset.Name)
	if h.dryRun {
		return nil
	}
	return p.driver.Delete(ctx, snap)
}
