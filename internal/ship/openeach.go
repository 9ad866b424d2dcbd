package ship

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"snapd/internal/point"
)

// OpenedSet is what came of opening the newest of the points that were encrypted for
// the same recipients.
type OpenedSet struct {
	Point  point.ID // the one that was tried
	Points int      // how many there are of that set
	Opened bool     // false: no identity opens it
}

// OpenEach tries, for each set of recipients that kept points were encrypted for, the
// newest point that can be read, as OpenNewest tries the newest of all. Streams of
// format 1 do not tell for whom: those count as one set.
func (r *Repository) OpenEach(ctx context.Context) ([]OpenedSet, error) {
	v, err := r.View(ctx, nil, Whole)
	if err != nil {
		return nil, err
	}
	var order []string
	points := map[string][]PointRecord{}
	for _, p := range slices.Backward(v.Points) {
		var tags []string
		for _, s := range p.Streams {
			tags = append(tags, v.recipientsBelow(s.Stream)...)
		}
		slices.Sort(tags)
		set := strings.Join(slices.Compact(tags), " ")
		if points[set] == nil {
			order = append(order, set)
		}
		points[set] = append(points[set], p)
	}
	var out []OpenedSet
	for _, set := range order {
		one, err := r.openOne(ctx, points[set])
		if err != nil {
			return out, err
		}
		out = append(out, one)
	}
	return out, nil
}

// openOne opens the first of some points that can be read.
func (r *Repository) openOne(ctx context.Context, points []PointRecord) (OpenedSet, error) {
	one := OpenedSet{Points: len(points)}
	for i, p := range points {
		one.Point = p.ID
		err := r.openPoint(ctx, p.Number)
		switch {
		case err == nil:
			one.Opened = true
			return one, nil
		case errors.Is(err, ErrNoIdentity):
			return one, nil
		case !isDamage(err):
			return one, fmt.Errorf("open restore point %s: %w", p.ID, err)
		}
		if i+1 >= unreadable {
			break
		}
	}
	return one, nil
}
