package ship

import (
	"context"
	"errors"
)

// CatchUp reads what was put after the view was made, events and points, each
// by its number: two requests when there is nothing.
func (r *Repository) CatchUp(ctx context.Context, v *View) error {
	if _, err := r.refresh(ctx, v); err != nil {
		return err
	}
	return r.newPoints(ctx, v)
}

// Behind tells whether another process of this host has seen newer points or events
// than the view has. It asks no store.
func (v *View) Behind() bool {
	if v.cache == nil {
		return true // nothing tells
	}
	seen := v.cache.readSeen()
	return above(seen.Event, &Link{Number: v.top}) || above(seen.Point, &Link{Number: v.highest})
}

// newPoints reads the points above the highest number that the view knows.
func (r *Repository) newPoints(ctx context.Context, v *View) error {
	news := false
	for n, junk := v.Highest()+1, 0; junk < maxJunk; n++ {
		doc, digest, size, err := r.fetchPoint(ctx, n)
		if errors.Is(err, ErrNotFound) {
			break
		}
		if isDamage(err) {
			junk++
			continue
		}
		if err != nil {
			return err
		}
		rec := doc.record(digest, size)
		v.points[n] = &rec
		r.remember(v.cache, doc, digest, size)
		news = true
	}
	if news {
		v.settle()
	}
	return nil
}
