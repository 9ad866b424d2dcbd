package agent

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"snapd/internal/advice"
	"snapd/internal/point"
	"snapd/internal/ship"
)

// giveUp ends the uploads to a repository that no ship will go on with: the
// snapshot was shipped from another base meanwhile, its point was dropped, or the
// process that put the point was killed before it could end them. Each has a
// lease, which would keep what it has put, and what that builds on, for ever.
func (a *shipping) giveUp(ctx context.Context, o *opened) error {
	left, err := a.unwanted(o)
	if err != nil || len(left) == 0 {
		return err
	}
	if err := o.again(ctx, ship.Known); err != nil { // another process may need it by now
		return err
	}
	if left, err = a.unwanted(o); err != nil {
		return err
	}
	for _, h := range left {
		if err := a.giveUpOne(ctx, o, h); err != nil {
			return fmt.Errorf("give up upload %s: %w", h.Stream, err)
		}
	}
	return nil
}

// unwanted are these uploads.
func (a *shipping) unwanted(o *opened) ([]ship.RecordHead, error) {
	heads, err := a.records.Active()
	if err != nil || len(heads) == 0 {
		return nil, err
	}
	points, err := a.record.All()
	if err != nil {
		return nil, err // a host that cannot tell gives nothing up
	}
	return slices.DeleteFunc(heads, func(h ship.RecordHead) bool {
		return h.Repository != o.repo.ID || waitsFor(points, h, o.name) || healsWith(o.view, h)
	}), nil
}

// waitsFor tells whether a point that is yet to be shipped has the snapshot of
// an upload.
func waitsFor(points []point.Point, h ship.RecordHead, repository string) bool {
	return slices.ContainsFunc(points, func(p point.Point) bool {
		return p.Awaits(repository) && slices.ContainsFunc(p.Datasets, func(d point.Dataset) bool { return d.Origin == h.Origin && d.GUID == h.GUID })
	})
}

// healsWith tells whether an upload takes the place of a stream that is damaged.
func healsWith(view *ship.View, h ship.RecordHead) bool {
	return slices.ContainsFunc(view.Points, func(r ship.PointRecord) bool {
		return slices.ContainsFunc(r.Streams, func(s ship.PointStream) bool {
			return s.Origin == h.Origin && s.GUID == h.GUID && !view.Whole(s.Stream)
		})
	})
}

// giveUpOne writes down that what an upload has put may go, unless a point names
// it, and then forgets it. A process that is killed in between is followed by one
// that does the same.
func (a *shipping) giveUpOne(ctx context.Context, o *opened, h ship.RecordHead) (err error) {
	held, err := a.tryLock("ship-"+o.repo.ID+"-"+h.Origin, "the ship of a dataset")
	if errors.Is(err, advice.Busy) {
		return nil // by a process that is shipping it: its end is the time to ask again
	}
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, held.release()) }()
	if !slices.ContainsFunc(o.view.Streams(), func(s ship.StreamRef) bool { return s.ID == h.Stream }) {
		if err := o.repo.Abandon(ctx, o.view, []point.ID{h.Stream}); err != nil {
			return err
		}
	}
	return a.endUploads(ctx, o.repo, []ship.PointStream{{Stream: h.Stream}})
}
