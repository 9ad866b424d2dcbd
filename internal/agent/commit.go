package agent

import (
	"context"
	"errors"
	"fmt"
	"time"

	"snapd/internal/advice"
	"snapd/internal/point"
	"snapd/internal/ship"
)

// commitPatience is how long a point waits for a prune or another commit.
const commitPatience = 10 * time.Minute

// commitPoint puts the point, which makes it exist for readers.
func (a *shipping) commitPoint(ctx context.Context, o *opened, p point.Point) (point.Point, error) {
	rec, err := repositoryPoint(p, o)
	if err != nil {
		return p, err
	}
	for _, s := range rec.Streams {
		if _, known := o.view.Stream(s.Stream); known && !o.view.Whole(s.Stream) {
			return p, advice.With(fmt.Errorf("commit the point: its stream %s or one it builds on was removed meanwhile: %w", s.Stream, ship.ErrNotFound),
				"run the same command again: it is shipped anew")
		}
	}
	rec, err = a.put(ctx, o, rec, false)
	if err != nil {
		return p, fmt.Errorf("commit the point: %w", err)
	}
	return a.remember(ctx, p.ID, func(q *point.Point) { arrived(q, rec, o.name) })
}

// put puts a point, for the first time or again. Points are numbered, and a
// prune of this host must not take away what the point is about to name, so one
// process of this host does either at a time. What is returned has its number.
func (a *shipping) put(ctx context.Context, o *opened, rec ship.PointRecord, again bool) (_ ship.PointRecord, err error) {
	held, err := a.waitLock(ctx, pointsLock(o.repo), "the list of points in "+o.name, commitPatience)
	if err != nil {
		return rec, err
	}
	defer func() { err = errors.Join(err, held.release()) }()
	number, err := o.repo.PutPoint(ctx, rec, o.view)
	if errors.Is(err, ship.ErrConflict) {
		// Another process of this host may have put one since we read.
		if err := errors.Join(o.again(ctx, ship.Known), a.checkWriters(o)); err != nil {
			return rec, err
		}
		if there, kept := o.view.Point(rec.ID); kept && !again {
			return there, nil // it was faster
		}
		number, err = o.repo.PutPoint(ctx, rec, o.view)
	}
	if err != nil {
		return rec, err
	}
	if err := errors.Join(o.cache.NotePut(number), a.endUploads(ctx, o.repo, rec.Streams)); err != nil {
		return rec, err
	}
	rec.Number = number
	return rec, nil
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
