package agent

import (
	"context"
	"errors"
	"fmt"

	"snapd/internal/advice"
	"snapd/internal/fs"
	"snapd/internal/point"
	"snapd/internal/retain"
	"snapd/internal/ship"
	"snapd/internal/workload"
)

// point ships each dataset of a point, then the point itself. A stream that was
// shipped earlier counts only while the repository has it.
func (a *shipping) point(ctx context.Context, o *opened, g workload.Group, p point.Point) (point.Point, error) {
	for _, d := range p.Datasets {
		if s := p.ShippedTo(o.name, d.Dataset); s != nil {
			there, err := o.has(ctx, s.Stream)
			if err != nil {
				return p, err
			}
			if there {
				continue
			}
		}
		shipped, err := a.dataset(ctx, o, g, p, d, nil)
		if err != nil {
			return p, fmt.Errorf("%s: %w", d.Dataset, err)
		}
		shipped.Repository = o.name
		if p, err = a.remember(ctx, p.ID, func(q *point.Point) { q.Arrive(*shipped) }); err != nil {
			return p, err
		}
	}
	return a.commitPoint(ctx, o, p)
}

// dataset ships one dataset of a point, from the base that retain names.
// instead is the damaged stream whose place the new one takes, nil if none.
func (a *shipping) dataset(ctx context.Context, o *opened, g workload.Group, p point.Point, d point.Dataset, instead *ship.StreamRef) (_ *point.Shipped, err error) {
	held, err := a.tryLock("ship-"+o.repo.ID+"-"+d.Origin, "the ship of "+d.Dataset)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, held.release()) }()
	if err := a.catchUp(ctx, o, p, d); err != nil {
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
	here, err := bases(ctx, driver, datasetOf(d), local)
	if err != nil {
		return nil, err
	}
	c := a.chooser(o, g, d.Origin)
	if done, there := c.made(d.GUID); there && !c.full {
		a.settle(ctx, driver, o.repo, *snap, g.Name)
		return a.alreadyThere(ctx, o, d, done)
	}
	u := upload{driver: driver, snap: *snap, bases: here, group: g.Name}
	for {
		u.choice = c.choose(here, *snap)
		if instead != nil {
			u.choice.Number = instead.Number // it stands where the damaged one stood
		}
		shipped, err := a.upload(ctx, o, p, d, u)
		unfit, isUnfit := errors.AsType[*ship.UnfitBase](err)
		switch {
		case isUnfit:
			a.noteUnfit(ctx, o, g, unfit)
			c.refuse(unfit.Base, unfit.Error())
		case errors.Is(err, ship.ErrOtherFormat):
			c.onlyFull(err.Error())
		default:
			if err == nil && u.choice.Base == nil {
				a.beganFull(o, d.Origin)
			}
			return shipped, err
		}
	}
}

// catchUp reads the repository again when another process of this host has
// shipped the dataset since it was read.
func (a *shipping) catchUp(ctx context.Context, o *opened, p point.Point, d point.Dataset) error {
	q, err := a.record.Get(p.ID)
	if err != nil {
		return nil //nolint:nilerr // a point of which only the repository knows
	}
	s := q.ShippedTo(o.name, d.Dataset)
	if s == nil {
		return nil
	}
	_, known := o.view.Stream(s.Stream)
	if before := p.ShippedTo(o.name, d.Dataset); known || before != nil && before.Stream == s.Stream {
		return nil
	}
	return o.again(ctx, ship.Known)
}

// noteUnfit puts on record what was found damaged of a base, so that nothing is
// built on it any more, and that it is healed.
func (a *shipping) noteUnfit(ctx context.Context, o *opened, g workload.Group, unfit *ship.UnfitBase) {
	a.warn(g.Name, "repository %s: %s: it is not built upon", o.name, unfit)
	if len(unfit.Damage) == 0 {
		return
	}
	o.noted = true
	if err := o.repo.NoteDamage(ctx, o.view, unfit.Damage); err != nil {
		a.warnOfError(g.Name, errors.Join(err, o.cache.NoteDamage(unfit.Damage)))
	}
}

type upload struct {
	driver fs.Driver
	snap   fs.Snapshot
	bases  []fs.Snapshot
	choice choice
	group  string
	notes  []string // of the stream
}

func (a *shipping) upload(ctx context.Context, o *opened, p point.Point, d point.Dataset, u upload) (*point.Shipped, error) {
	repo := o.repo
	format, fixed, err := u.driver.Format(ctx, u.snap)
	if err != nil {
		return nil, err
	}
	head := ship.Head{
		Point: p.ID, Driver: d.Driver, Origin: d.Origin, GUID: d.GUID, Format: format,
		Number: u.choice.Number, Depth: u.choice.Depth, Host: HostID(repo.ID), OneFormat: fixed,
	}
	var base *fs.Snapshot
	if b := u.choice.Base; b != nil {
		base = snapshotWith(u.bases, b.GUID)
		head.Base = u.choice.stream
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
	placed, err := stream.InPoint(d.Driver)
	if err != nil {
		return nil, err
	}
	o.placed[stream.ID] = placed
	return shippedOf(d, stream, u.why()), nil
}

// alreadyThere answers for a stream that the repository has although the local
// record does not say so: we were killed in between.
func (a *shipping) alreadyThere(ctx context.Context, o *opened, d point.Dataset, ref ship.StreamRef) (*point.Shipped, error) {
	m, err := o.repo.Manifest(ctx, ref)
	if err != nil {
		return nil, err
	}
	o.placed[m.ID] = m.InPoint()
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

// chainOf is what retain needs to know of streams.
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
