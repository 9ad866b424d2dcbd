package agent

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"snapd/internal/advice"
	"snapd/internal/fs"
	"snapd/internal/point"
	"snapd/internal/ship"
	"snapd/internal/workload"
)

// An orphan is a snapshot of ours that nothing here or in a repository names any
// more: the state directory was lost or put back, the disk came from another
// host. What is done about it is cautious, because what looks like an orphan may
// be all that is left of a user's data:
//
//   - It is named by status, and removed by prune a week after it was first seen,
//     never at first sight.
//   - It goes only where this installation made it, and where newer snapshots of
//     the dataset are here and in a repository.
//   - It goes only when the record of points could be read whole, every storage
//     has listed what it has, and every repository has answered and has nothing
//     that is unexplained. What a repository's point names by guid is none.
//
// Everything else is named, and stays until a user drops it.

const (
	// orphanAge is how long after it was first seen an orphan is removed.
	orphanAge = 7 * 24 * time.Hour
	// orphanLook is how often runs of single groups look for orphans: it costs a
	// listing of every storage.
	orphanLook = 20 * time.Hour
)

// orphan is one, as prune found and remembers it.
type orphan struct {
	fs.Snapshot
	First time.Time `json:"first"`         // seen as one
	After time.Time `json:"after"`         // when it is removed; zero: it is not
	Why   string    `json:"why,omitempty"` // it is not removed
	// Strange: neither it nor its dataset is known here. It is no concern of
	// this installation, and only doctor tells of it.
	Strange bool `json:"strange,omitempty"`
}

// Why an orphan stays until a user drops it.
const (
	orphanForeign = "another host, another installation of snapd or an older version made it"
	orphanNewest  = "there is no newer snapshot of that dataset"
	orphanUnknown = "no restore point that is known here has that dataset"
	orphanHere    = "its group ships to no repository"
	// This one may change by itself.
	orphanUnshipped = "no newer restore point of that dataset is in a repository"
)

// id is the restore point that it was made for.
func (o orphan) id() point.ID {
	_, text, _ := fs.ParseSnapshotName(o.Name)
	return point.ID(text)
}

// self tells this installation from others, "" when that is not known.
func (a *Agent) self() string {
	id := a.Machine
	if id == "" {
		text, err := os.ReadFile("/etc/machine-id")
		if id = strings.TrimSpace(string(text)); err != nil || id == "" {
			return ""
		}
	}
	return id + " " + filepath.Clean(a.State)
}

// orphanHunt looks for orphans.
type orphanHunt struct {
	*Agent
	repos  *repositories
	views  map[string]*ship.View // of the repositories that were looked at already
	groups []workload.Group      // all of this host
	now    time.Time
	dryRun bool
	out    *Pruned

	points []point.Point
	active []ship.RecordHead // unfinished ships
	newest map[string]uint64 // order of the newest snapshot of a dataset
	first  map[string]orphan // as they were remembered, by guid
	unsure string            // why nothing is removed now, "" when nothing keeps it
}

// pruneOrphans looks for orphans, remembers them, and removes those that have
// been there long enough. What it cannot find out costs room and stops nothing.
func (a *Agent) pruneOrphans(ctx context.Context, s *scene, repos *repositories, views map[string]*ship.View, o PruneOptions, out *Pruned) {
	if a.OnlyRepositories || o.Former != "" {
		return
	}
	h := &orphanHunt{Agent: a, repos: repos, views: views, groups: s.groups, now: a.Now().UTC(), dryRun: o.DryRun, out: out}
	if err := h.run(ctx, len(o.Groups) > 0); err != nil && ctx.Err() == nil {
		a.warnOfError("", fmt.Errorf("look for snapshots that belong to no restore point: %w", err))
	}
}

func (h *orphanHunt) run(ctx context.Context, seldom bool) (err error) {
	held, err := h.tryLock("orphans", "the list of orphans")
	if errors.Is(err, advice.Busy) {
		return nil // another prune looks
	}
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, held.release()) }()
	before := h.orphans()
	if age := h.now.Sub(before.Looked); seldom && age >= 0 && age < orphanLook {
		return nil
	}
	h.first = map[string]orphan{}
	for _, o := range before.Orphans {
		h.first[o.GUID] = o
	}
	found, err := h.candidates(ctx)
	if err != nil {
		return err
	}
	if len(found) > 0 {
		if found, err = h.unnamed(ctx, found); err != nil {
			return err
		}
	}
	var left []orphan
	var faults []error
	for _, s := range found {
		o := h.judge(s)
		stays, err := h.settle(ctx, o)
		faults = append(faults, err)
		if stays {
			left = append(left, o)
		}
	}
	if !h.dryRun {
		faults = append(faults, h.writeOrphans(orphans{Looked: h.now, Orphans: left}))
	}
	return errors.Join(faults...)
}

// candidates are the snapshots of ours that this host knows nothing of. The
// storages are asked before the record: what is being taken meanwhile is then in
// one or the other.
func (h *orphanHunt) candidates(ctx context.Context) ([]fs.Snapshot, error) {
	var all []fs.Snapshot
	for _, d := range h.driverList() {
		lister, ok := d.(fs.OwnLister)
		if !ok {
			continue
		}
		ours, err := lister.Ours(ctx)
		if err != nil {
			return nil, err
		}
		all = append(all, ours...)
	}
	taking, err := h.taking.All()
	if err != nil {
		return nil, err
	}
	if h.points, err = h.record.All(); err != nil {
		return nil, err
	}
	if h.active, err = h.records.Active(); err != nil {
		return nil, err
	}
	known, ids := map[string]bool{}, map[point.ID]bool{}
	for _, p := range slices.Concat(taking, h.points) {
		ids[p.ID] = true
		for _, d := range p.Datasets {
			known[d.GUID] = true
		}
	}
	h.newest = map[string]uint64{}
	var out []fs.Snapshot
	for _, s := range all {
		key := s.Dataset.Driver + " " + s.Dataset.GUID
		h.newest[key] = max(h.newest[key], s.Order)
		at, text, err := fs.ParseSnapshotName(s.Name)
		id, idErr := point.ParseID(text)
		if err != nil || idErr != nil || h.now.Sub(at) < strayAge || known[s.GUID] || ids[id] || h.shipping(s) {
			continue
		}
		out = append(out, s)
	}
	return out, nil
}

// shipping tells whether an unfinished ship may read a snapshot: of its dataset
// nothing is touched.
func (h *orphanHunt) shipping(s fs.Snapshot) bool {
	return slices.ContainsFunc(h.active, func(r ship.RecordHead) bool { return r.GUID == s.GUID || r.Origin == s.Dataset.GUID })
}

// unnamed leaves out what any repository names by its guid: that is a point, or
// the base of one, and what retention or the next ship says of it holds.
func (h *orphanHunt) unnamed(ctx context.Context, found []fs.Snapshot) ([]fs.Snapshot, error) {
	named := map[string]bool{}
	for _, name := range h.repositoryNames("") {
		view := h.views[name]
		if view == nil {
			o, err := h.repos.get(ctx, name)
			if err != nil {
				return nil, fmt.Errorf("repository %s: %w", name, err)
			}
			view = o.view
		}
		for _, p := range slices.Concat(view.Points, view.Lost()) {
			for _, s := range p.Streams {
				named[s.GUID] = true
			}
		}
		for _, s := range view.Streams() {
			named[s.GUID] = true
		}
		if len(view.Problems) > 0 {
			h.unsure = "something in repository " + name + " is not explained"
		}
	}
	return slices.DeleteFunc(found, func(s fs.Snapshot) bool { return named[s.GUID] }), nil
}

// judge says what becomes of an orphan.
func (h *orphanHunt) judge(s fs.Snapshot) orphan {
	o := orphan{Snapshot: s, First: h.now}
	at, _, _ := fs.ParseSnapshotName(s.Name)
	// A time that a wrong clock gave proves nothing.
	before, seen := h.first[s.GUID]
	if seen && !before.First.After(h.now) && !before.First.Before(at) {
		o.First = before.First
	}
	switch k := h.kept(s.Dataset, at); {
	case !o.id().By(h.self()):
		o.Why, o.Strange = orphanForeign, !k.known
	case s.Order >= h.newest[s.Dataset.Driver+" "+s.Dataset.GUID]:
		o.Why = orphanNewest
	case !k.known:
		o.Why = orphanUnknown
	case k.local:
		o.Why = orphanHere
	case !k.shipped:
		o.Why = orphanUnshipped
	default:
		if before.After.IsZero() {
			o.First = h.now // until now it was said that it stays
		}
		o.After = o.First.Add(orphanAge)
		if end := at.Add(k.keep); end.After(o.After) {
			o.After = end
		}
	}
	return o
}

// kept is what the recorded points of a dataset say of an orphan of it.
type kept struct {
	known   bool          // there are such points
	local   bool          // of a group without a repository, where nothing else is
	shipped bool          // a newer one is in a repository
	keep    time.Duration // how long their groups keep snapshots here
}

func (h *orphanHunt) kept(d fs.Dataset, at time.Time) kept {
	var k kept
	for _, p := range h.points {
		if !slices.ContainsFunc(p.Datasets, func(has point.Dataset) bool { return has.Driver == d.Driver && has.Origin == d.GUID }) {
			continue
		}
		g := h.Config.Group(p.Group, h.Config.Groups[p.Group])
		if i := slices.IndexFunc(h.groups, func(g workload.Group) bool { return g.Name == p.Group }); i >= 0 {
			g = h.groups[i].Group // as labels say
		}
		k.known = true
		k.local = k.local || len(g.Repositories) == 0
		k.shipped = k.shipped || p.Time.After(at) && slices.ContainsFunc(h.repositoryNames(""), p.InRepository)
		k.keep = max(k.keep, time.Duration(g.KeepLocal))
	}
	return k
}

// settle removes an orphan whose time has come, and says so, or says why it
// stays.
func (h *orphanHunt) settle(ctx context.Context, o orphan) (stays bool, err error) {
	reason, day := o.Why, o.First.Local().Format(time.DateOnly)
	switch {
	case reason != "":
	case h.now.Before(o.After):
		reason = "removed after " + o.After.Local().Format(time.DateTime)
	case h.unsure != "":
		reason = h.unsure
	}
	if o.Strange {
		return true, nil
	}
	if reason != "" {
		h.out.add(true, o.id(), "here", "%s: belongs to no restore point: %s", o.Dataset.Name, reason)
		return true, nil
	}
	if !h.dryRun {
		if err := h.remove(ctx, o); err != nil {
			return true, err
		}
		h.warn("", "removed the snapshot %s of %s, which belonged to no restore point since %s", o.Name, o.Dataset.Name, day)
	}
	h.out.add(false, o.id(), "here", "%s: belongs to no restore point, and was seen first on %s", o.Dataset.Name, day)
	return h.dryRun, nil
}

func (a *Agent) remove(ctx context.Context, o orphan) error {
	driver, err := a.driver(o.Dataset.Driver)
	if err != nil {
		return err
	}
	return driver.Delete(ctx, o.Snapshot)
}
