package agent

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"snapd/internal/advice"
	"snapd/internal/fs"
	"snapd/internal/point"
	"snapd/internal/retain"
	"snapd/internal/ship"
	"snapd/internal/workload"
)

// Ship streams to the repositories of the groups what they lack, oldest
// points first. No names means all groups. The points returned are those that
// had something to ship. A fault with one point does not keep the others back.
func (a *Agent) Ship(ctx context.Context, names []string) ([]point.Point, error) {
	return a.ship(ctx, names, false)
}

// ship is Ship. passing leaves out groups that ship nowhere, for a run that does
// with each group what there is to do.
func (a *Agent) ship(ctx context.Context, names []string, passing bool) ([]point.Point, error) {
	s, groups, err := a.lookFor(ctx, names)
	if err != nil {
		return nil, err
	}
	defer s.close() //nolint:errcheck // only read from
	a.tendStorage(ctx)
	var out []point.Point
	var faults []error
	for _, g := range groups {
		if passing && len(g.Repositories) == 0 {
			continue
		}
		points, err := a.shipGroup(ctx, g)
		out = append(out, points...)
		if err != nil {
			faults = append(faults, err)
		}
		if ctx.Err() != nil {
			break
		}
	}
	return out, errors.Join(faults...)
}

func (a *Agent) shipGroup(ctx context.Context, g workload.Group) ([]point.Point, error) {
	if len(g.Repositories) == 0 {
		return nil, advice.With(advice.Usagef("group %s names no repository to ship to", g.Name),
			"add a [repository.NAME] to %s, then run: snapd init", a.Config.File)
	}
	var faults []error
	done := map[point.ID]point.Point{}
	for _, name := range g.Repositories {
		points, err := a.shipTo(ctx, g, name)
		for _, p := range points {
			done[p.ID] = p
		}
		if err != nil {
			faults = append(faults, fmt.Errorf("ship group %s to %s: %w", g.Name, name, err))
		}
	}
	var out []point.Point
	for _, p := range done {
		out = append(out, p)
	}
	slices.SortFunc(out, byIDOrder)
	return out, errors.Join(faults...)
}

// noRepository says that a repository of that name is not configured.
func (a *Agent) noRepository(name string) error {
	return advice.With(advice.Usagef("there is no [repository.%s]", name), "add it to %s, or name one that is there", a.Config.File)
}

func byIDOrder(a, b point.Point) int { return cmp.Compare(a.ID, b.ID) }

// shipTo ships all points of a group that one repository lacks.
func (a *Agent) shipTo(ctx context.Context, g workload.Group, repository string) ([]point.Point, error) {
	if !slices.ContainsFunc(a.points(), func(p point.Point) bool { return p.Group == g.Name }) {
		return nil, nil
	}
	conf, known := a.Config.Repositories[repository]
	if !known {
		return nil, a.noRepository(repository)
	}
	repo, err := a.Open(ctx, conf, a.Report)
	if err != nil {
		return nil, err
	}
	index, err := repo.Index(ctx)
	if err != nil {
		return nil, err
	}
	points, err := a.reconcile(ctx, conf, index)
	if err != nil {
		return nil, err
	}
	var out []point.Point
	var faults []error
	tried := map[point.ID]bool{}
	for {
		waiting := slices.DeleteFunc(unshipped(points, g.Name, repository), func(p point.Point) bool { return tried[p.ID] })
		if len(waiting) == 0 {
			return out, errors.Join(faults...)
		}
		for _, p := range waiting {
			tried[p.ID] = true
			p, err := a.shipPoint(ctx, p, repo, index, repository)
			if err == nil {
				out = append(out, p)
				continue
			}
			faults = append(faults, fmt.Errorf("point %s: %w", p.ID, err))
			if ctx.Err() != nil || !errors.Is(err, fs.ErrNotFound) {
				return out, errors.Join(faults...) // the next point would fail the same way
			}
		}
		// Whoever took a point meanwhile found us shipping its dataset, and left
		// it to us.
		points = a.points()
	}
}

// unshipped are the points of a group that a repository does not hold whole.
func unshipped(points []point.Point, group, repository string) []point.Point {
	return slices.DeleteFunc(slices.Clone(points), func(p point.Point) bool { return p.Group != group || !p.Awaits(repository) })
}

// shipPoint ships each dataset of a point, then the point itself. A stream
// that was shipped earlier counts only while the repository lists it.
func (a *Agent) shipPoint(ctx context.Context, p point.Point, repo *ship.Repository, index *ship.Index, name string) (point.Point, error) {
	for _, d := range p.Datasets {
		if s := p.ShippedTo(name, d.Dataset); s != nil && index.Whole(s.Stream) {
			continue
		}
		shipped, err := a.shipDataset(ctx, p, d, repo, p.Group)
		if err != nil {
			return p, fmt.Errorf("%s: %w", d.Dataset, err)
		}
		shipped.Repository = name
		if p, err = a.remember(ctx, p.ID, func(q *point.Point) { q.Arrive(*shipped) }); err != nil {
			return p, err
		}
	}
	return a.commitPoint(ctx, p, repo, name)
}

// shipDataset ships one dataset of a point, from the base that retain names.
func (a *Agent) shipDataset(ctx context.Context, p point.Point, d point.Dataset, repo *ship.Repository, group string) (_ *point.Shipped, err error) {
	held, err := a.tryLock("ship-"+repo.ID+"-"+d.Origin, "the ship of "+d.Dataset)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, held.release()) }()
	index, err := repo.Index(ctx)
	if err != nil {
		return nil, err
	}
	driver, err := a.driver(d.Driver)
	if err != nil {
		return nil, err
	}
	local, err := driver.Snapshots(ctx, datasetOf(d))
	if err != nil {
		return nil, err
	}
	snap := snapshotWith(local, d.GUID)
	if snap == nil {
		return nil, advice.With(fmt.Errorf("the snapshot %s is gone from this host, so that it cannot be shipped any more: %w", d.Snapshot, fs.ErrNotFound),
			"run: snapd prune, which forgets the point")
	}
	streams := streamsOf(index, d.Origin)
	if done := slices.IndexFunc(streams, func(s ship.StreamRef) bool { return s.GUID == d.GUID }); done >= 0 {
		a.settle(ctx, driver, repo, *snap, group)
		return a.alreadyThere(ctx, repo, d, streams[done])
	}
	here, err := bases(ctx, driver, datasetOf(d), local)
	if err != nil {
		return nil, err
	}
	choice := retain.Base(chainOf(streams), func(guid string) bool {
		s := snapshotWith(here, guid)
		return s != nil && s.Order < snap.Order
	})
	explainChoice(&choice, streams, here)
	u := upload{driver: driver, snap: *snap, bases: here, streams: streams, choice: choice, group: group}
	shipped, err := a.upload(ctx, p, d, repo, u)
	unfit, isUnfit := errors.AsType[*ship.UnfitBase](err)
	if isUnfit || errors.Is(err, ship.ErrOtherFormat) {
		why := err.Error()
		if isUnfit {
			why = unfit.Error()
		}
		u.choice = fullOf(choice, why)
		shipped, err = a.upload(ctx, p, d, repo, u)
	}
	return shipped, err
}

type upload struct {
	driver  fs.Driver
	snap    fs.Snapshot
	bases   []fs.Snapshot
	streams []ship.StreamRef
	choice  retain.Choice
	group   string
	notes   []string // of the stream
}

func (a *Agent) upload(ctx context.Context, p point.Point, d point.Dataset, repo *ship.Repository, u upload) (*point.Shipped, error) {
	format, fixed, err := u.driver.Format(ctx, u.snap)
	if err != nil {
		return nil, err
	}
	head := ship.Head{
		Point: p.ID, Driver: d.Driver, Origin: d.Origin, GUID: d.GUID, Format: format,
		Number: u.choice.Number, Depth: u.choice.Depth, Host: hostID(repo.ID), OneFormat: fixed,
	}
	var base *fs.Snapshot
	if b := u.choice.Base; b != nil {
		base = snapshotWith(u.bases, b.GUID)
		at := slices.IndexFunc(u.streams, func(s ship.StreamRef) bool { return s.ID == b.ID })
		head.Base = &u.streams[at]
	} else {
		head.Full = u.choice.Why
	}
	if err := u.protect(ctx, repo, base); err != nil {
		return nil, err
	}
	total := u.estimate(ctx, base)
	stream, err := repo.UploadFrom(ctx, head, u.senderOf(base), a.records, func(pr ship.Progress) {
		a.Report(Event{Kind: Progress, Group: u.group, Text: d.Dataset, Bytes: pr.SentBytes, Total: atLeast(total, pr.SentBytes)})
	})
	if err != nil {
		return nil, err
	}
	a.settle(ctx, u.driver, repo, u.snap, u.group)
	return shippedOf(d, stream, u.why()), nil
}

// alreadyThere answers for a stream whose manifest lies in the repository
// although the local record does not say so: we were killed in between.
func (a *Agent) alreadyThere(ctx context.Context, repo *ship.Repository, d point.Dataset, ref ship.StreamRef) (*point.Shipped, error) {
	m, err := repo.Manifest(ctx, ref)
	if err != nil {
		return nil, err
	}
	return shippedOf(d, ship.Stream{
		StreamRef: m.StreamRef, SentBytes: m.SentBytes, StoredBytes: m.StoredBytes,
		Segments: m.Segments, Digest: m.Digest.String(),
	}, "was there already"), nil
}

func shippedOf(d point.Dataset, s ship.Stream, why string) *point.Shipped {
	out := &point.Shipped{
		Dataset: d.Dataset, Stream: s.ID, SentBytes: s.SentBytes, StoredBytes: s.StoredBytes,
		Segments: s.Segments, Why: why, Resumed: s.Resumed, Digest: s.Digest,
	}
	if s.Base != "" {
		out.Base = &s.Base
	}
	return out
}

// commitPatience is how long a point waits for a prune or another commit.
const commitPatience = 10 * time.Minute

// commitPoint puts the point, which makes it exist for readers. Points are
// numbered, and a prune must not take away what the point is about to name, so
// one process of this host does either at a time.
func (a *Agent) commitPoint(ctx context.Context, p point.Point, repo *ship.Repository, name string) (_ point.Point, err error) {
	held, err := a.waitLock(ctx, pointsLock(repo), "the list of points in "+name, commitPatience)
	if err != nil {
		return p, err
	}
	defer func() { err = errors.Join(err, held.release()) }()
	index, err := repo.Index(ctx)
	if err != nil {
		return p, err
	}
	if q, err := a.record.Get(p.ID); err == nil && listed(q, name, index) {
		return q, nil // another process was faster
	}
	rec, err := repositoryPoint(p, repo, name)
	if err != nil {
		return p, err
	}
	for _, s := range rec.Streams {
		if !index.Whole(s.Stream) {
			return p, advice.With(fmt.Errorf("commit the point: its stream %s or one it builds on was removed meanwhile: %w", s.Stream, ship.ErrNotFound),
				"run the same command again: it is shipped anew")
		}
	}
	number, err := repo.PutPoint(ctx, rec, index.View)
	if err != nil {
		return p, fmt.Errorf("commit the point: %w", err)
	}
	if err := a.endUploads(ctx, repo, rec.Streams); err != nil {
		return p, err
	}
	return a.remember(ctx, p.ID, func(q *point.Point) {
		if q.Numbers == nil {
			q.Numbers = map[string]int64{}
		}
		q.Numbers[name] = number
	})
}

// endUploads removes what kept the streams of a point until it was put: their
// leases, then their records. The local record of the point is told of it last,
// so that what is killed in between is done by the next call.
func (a *Agent) endUploads(ctx context.Context, repo *ship.Repository, streams []ship.PointStream) error {
	for _, s := range streams {
		if !a.records.Has(s.Stream) {
			continue
		}
		if err := repo.EndLease(ctx, s.Stream); err != nil {
			return err
		}
		if err := a.records.Forget(s.Stream); err != nil {
			return err
		}
	}
	return nil
}

// pointsLock names the lock on what a repository holds, by its id: two
// configured names can mean one repository.
func pointsLock(repo *ship.Repository) string { return "points-" + repo.ID }

// remember changes a point in the local record; several ships may do so.
func (a *Agent) remember(ctx context.Context, id point.ID, change func(*point.Point)) (_ point.Point, err error) {
	held, err := a.waitLock(ctx, "record", "the local record", time.Minute)
	if err != nil {
		return point.Point{ID: id}, err
	}
	defer func() { err = errors.Join(err, held.release()) }()
	p, err := a.record.Get(id)
	if err != nil {
		return point.Point{ID: id}, err
	}
	change(&p)
	return p, a.record.Put(p)
}

func chainOf(streams []ship.StreamRef) []retain.Stream {
	out := make([]retain.Stream, len(streams))
	for i, s := range streams {
		out[i] = retain.Stream{ID: s.ID, GUID: s.GUID, Number: s.Number, Depth: s.Depth}
	}
	return out
}

func datasetOf(d point.Dataset) fs.Dataset {
	return fs.Dataset{Driver: d.Driver, Name: d.Dataset, GUID: d.Origin, Domain: d.Domain}
}

func snapshotWith(snaps []fs.Snapshot, guid string) *fs.Snapshot {
	for i := range snaps {
		if snaps[i].GUID == guid {
			return &snaps[i]
		}
	}
	return nil
}
