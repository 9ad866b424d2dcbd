package ship

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"snapd/internal/advice"
	"snapd/internal/point"
)

// PutPoint adds a restore point whose streams are committed. view may be nil;
// it is brought up to date. When it returns nil, the point exists, and every
// stream that it needs was there after it was put. The same point with other
// streams is put again under a higher number, which is then the valid one.
// ErrConflict when another host writes here.
func (r *Repository) PutPoint(ctx context.Context, rec PointRecord, view *View) (number int64, err error) {
	if err := r.checkWritable(); err != nil {
		return 0, err
	}
	if view == nil {
		if view, err = r.View(ctx, nil, Whole); err != nil {
			return 0, err
		}
	}
	r.numbering.Lock()
	defer r.numbering.Unlock()
	number, err = r.putPoint(ctx, rec, view)
	if err != nil {
		return 0, fmt.Errorf("put point %s: %w", rec.ID, err)
	}
	return number, nil
}

func (r *Repository) putPoint(ctx context.Context, rec PointRecord, view *View) (int64, error) {
	if err := r.completeStreams(ctx, &rec, view); err != nil {
		return 0, err
	}
	if there, ok := view.Point(rec.ID); ok && sameStreams(there, rec) {
		// Put before, and the answer or we were lost.
		return there.Number, r.checkAfter(ctx, there, view)
	}
	if err := view.checkAlive(rec); err != nil {
		return 0, err
	}
	previous := view.newestPoint()
	if r.newest.Number > 0 && above(&r.newest, previous) {
		previous = new(r.newest)
	}
	number := max(view.Highest(), r.newest.Number) + 1
	for junk := 0; ; junk++ {
		doc, err := r.pointDoc(rec, number, previous, view.newestEvent())
		if err != nil {
			return 0, err
		}
		object, err := sign(r.signer, typePoint, r.ID, pointKey(number), doc)
		if err != nil {
			return 0, err
		}
		there, err := putOnce(ctx, r.store, pointKey(number), object)
		if err == nil {
			r.newest = Link{Number: number, Digest: digestOf(object)}
			return number, r.checkAfter(ctx, r.added(view, doc, object), view)
		}
		if !errors.Is(err, ErrExists) || there == nil {
			return 0, err
		}
		_, _, _, what := r.fetchPoint(ctx, number)
		switch {
		case what == nil:
			return 0, advice.With(fmt.Errorf("number %d is taken: %w", number, ErrConflict),
				"is this machine a clone? Give it a prefix and a signing key of its own (`snapd init`); if no other host writes here, try again")
		case !isDamage(what) || junk >= maxJunk:
			return 0, what
		case !errors.Is(what, ErrNotFound) && !view.junk[number]: // no record of ours lies there
			view.junk[number] = true
			view.met = append(view.met, Problem{Object: pointKey(number), Problem: what.Error(), Points: []point.ID{}})
		}
		number++
	}
}

// added makes the point that was just put a part of the view.
func (r *Repository) added(view *View, doc *pointDoc, object []byte) PointRecord {
	rec := doc.record(digestOf(object), int64(len(object)))
	view.points[rec.Number] = &rec
	r.remember(view.cache, doc, rec.Digest, rec.size)
	view.settle()
	return rec
}

func sameStreams(a, b PointRecord) bool {
	return slices.EqualFunc(a.Streams, b.Streams, func(a, b PointStream) bool { return a.Stream == b.Stream && a.Digest == b.Digest })
}

// completeStreams finds out where the streams stand in their chains.
func (r *Repository) completeStreams(ctx context.Context, rec *PointRecord, view *View) error {
	rec.Streams = slices.Clone(rec.Streams)
	for i := range rec.Streams {
		s := &rec.Streams[i]
		if s.StreamPlace != nil {
			continue
		}
		ref, err := r.findStream(ctx, view, s.Stream)
		if err != nil {
			return fmt.Errorf("stream %s: %w", s.Stream, err)
		}
		if ref.Digest != s.Digest {
			return fmt.Errorf("stream %s: %w: its manifest is another one than was committed", s.Stream, ErrDamaged)
		}
		s.StreamPlace = ref.place()
	}
	return nil
}

// checkAlive refuses a point that needs what an event removed by record.
func (v *View) checkAlive(rec PointRecord) error {
	for _, id := range v.chainOf(rec) {
		if n, removed := v.removed[id]; removed {
			return gone(id, n)
		}
	}
	return nil
}

func gone(id point.ID, event int64) error {
	return advice.With(advice.In(advice.Damaged, fmt.Errorf("stream %s, which it needs, was removed by record, in event number %d: %w", id, event, ErrDamaged)),
		"run the same command again: it is shipped anew")
}

// chainOf are the streams of a point and all that they build on.
func (v *View) chainOf(rec PointRecord) []point.ID {
	set := map[point.ID]bool{}
	for _, s := range rec.Streams {
		v.need(set, s.Stream)
		v.need(set, deref(s.Base))
	}
	return sortedIDs(set)
}

// checkAfter reads once more what was removed by record meanwhile. A prune looks
// for new points after it recorded that: of a point and an event that were put at
// the same time, at least one knows of the other.
func (r *Repository) checkAfter(ctx context.Context, rec PointRecord, view *View) error {
	err := errors.Join(view.cache.flush(), view.cache.noteSeen(view.newestPoint(), view.newestEvent()))
	if err != nil {
		view.Notes = append(view.Notes, err.Error())
	}
	if _, err := r.refresh(ctx, view); err != nil {
		return err
	}
	for _, id := range view.chainOf(rec) {
		n, removed := view.removed[id]
		if !removed {
			continue
		}
		damage := Damage{Stream: id, Object: view.objectOf(id), Problem: fmt.Sprintf("event number %d removed it by record while a point was put that needs it", n)}
		return errors.Join(gone(id, n), r.NoteDamage(ctx, view, []Damage{damage}))
	}
	if n, blind := view.blind(); blind {
		return r.checkThere(ctx, rec, view, n)
	}
	return nil
}

// blind tells whether an event lies there that no host can read: it may have removed
// anything by record.
func (v *View) blind() (number int64, blind bool) {
	for n := range v.unread {
		if _, read := v.events[n]; !read && !v.givenUp[n] && !v.passedOver(n) {
			return n, true
		}
	}
	return 0, false
}

// checkThere asks for all that a point needs, where an event that cannot be read may
// have removed it by record.
func (r *Repository) checkThere(ctx context.Context, rec PointRecord, view *View, event int64) error {
	for _, id := range view.chainOf(rec) {
		ref, known := view.Stream(id)
		if !known || ref.Key == "" {
			continue // it is a problem of the view
		}
		m, err := r.Manifest(ctx, ref)
		var lacking []lack
		if err == nil {
			lacking, err = r.lacks(ctx, m)
		}
		problem := ""
		switch {
		case isDamage(err) || errors.Is(err, ErrNotFound):
			problem = err.Error()
		case err != nil:
			return err
		case len(lacking) > 0:
			problem = lacking[0].key + ": " + lacking[0].why
		default:
			continue
		}
		lost := advice.With(advice.In(advice.Damaged, fmt.Errorf("stream %s, which it needs, is not whole, and event number %d, which may have removed it by record, cannot be read: %s: %w", id, event, problem, ErrDamaged)),
			"run the same command again: it is shipped anew")
		return errors.Join(lost, r.NoteDamage(ctx, view, []Damage{{Stream: id, Object: view.objectOf(id), Problem: clip(problem, maxProblem)}}))
	}
	return nil
}
