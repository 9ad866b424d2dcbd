package agent

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"snapd/internal/advice"
	"snapd/internal/point"
	"snapd/internal/ship"
)

// The last point of a group that can be restored goes only by that word: what
// is left of dropped, damaged or nameless ones does not count.
func TestTheLastPointThatCanBeRestored(t *testing.T) {
	for _, c := range []struct {
		name string
		keep int // points that are kept before
		do   func(b *bench, points []point.Point) (drop []point.Point)
		last bool
	}{
		{"one that was dropped, and whose snapshot others build on", 3, func(b *bench, p []point.Point) []point.Point {
			_, err := b.Drop(b.t.Context(), DropOptions{Points: []string{string(p[0].ID)}})
			b.check(err)
			return p[1:]
		}, true},
		{"one that is damaged", 2, func(b *bench, p []point.Point) []point.Point {
			b.damage(p[1])
			return p[:1]
		}, true},
		{"a damaged one may go while a whole one stays", 2, func(b *bench, p []point.Point) []point.Point {
			b.damage(p[1])
			return p[1:]
		}, false},
		{"a damaged one may go while another damaged one stays", 2, func(b *bench, p []point.Point) []point.Point {
			b.damage(p[0])
			return p[1:]
		}, false},
		{"one that waits to be shipped", 1, func(b *bench, p []point.Point) []point.Point {
			b.take()
			return p
		}, true},
		{"a group that no configuration and no record names", 2, func(b *bench, p []point.Point) []point.Point {
			b.lose("state/points/*")
			delete(b.Config.Groups, "shop")
			_, err := b.Drop(b.t.Context(), DropOptions{Points: []string{string(p[0].ID)}})
			b.check(err)
			return p[1:]
		}, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newBench(t, "", "main")
			b.neighbour()
			var points []point.Point
			for i := range c.keep {
				b.write("f", fmt.Sprint(i))
				points = append(points, b.take())
				b.ship()
			}
			o := DropOptions{}
			for _, p := range c.do(b, points) {
				o.Points = append(o.Points, string(p.ID))
			}
			kept := len(b.view("main").Points)
			d, err := b.Drop(t.Context(), o)
			if errors.Is(err, LastOfGroup) != c.last || c.last != (len(d.Drop) == 0) {
				t.Errorf("%v: %+v", err, d)
			}
			if left := len(b.view("main").Points); c.last && left != kept {
				t.Errorf("%d points are left of %d", left, kept)
			}
			o.Last = true
			if _, err := b.Drop(t.Context(), o); c.last && err != nil {
				t.Errorf("with the word: %v", err)
			}
		})
	}
}

// neighbour puts a point of another group, so that the repository would not be
// empty.
func (b *bench) neighbour() {
	b.t.Helper()
	first := b.take()
	b.ship()
	repo, view, cache, err := b.openView(b.t.Context(), "main", ship.Whole)
	b.check(err)
	rec := view.Points[0]
	rec.ID, rec.Secret.Group = point.NewID(b.now.Add(-time.Minute)), "neighbour"
	_, err = repo.PutPoint(b.t.Context(), rec, view)
	b.check(err)
	b.check(cache.Close())
	_, err = b.Drop(b.t.Context(), DropOptions{Points: []string{string(first.ID)}, Last: true})
	b.check(err)
	b.amnesia() // or this host would take the neighbour for a clone's
}

// A damaged point takes no whole one's place in retention.
func TestRetentionCountsWhatCanBeRestored(t *testing.T) {
	b := newBench(t, "keep-local = \"1h\"\nkeep = \"2 last\"", "main")
	var points []point.Point
	for i := range 3 {
		b.write("f", fmt.Sprint(i))
		points = append(points, b.take())
		if i == 0 {
			b.ship()
		}
	}
	b.ship()
	b.damage(points[1])
	b.damage(points[2])
	b.storage.Destroy(func(int) bool { return false })
	b.write("f", "new")
	b.take()
	done, err := b.Do(t.Context(), []string{"shop"}, Steps{Ship: true, Prune: true})
	if !errors.Is(err, advice.Damaged) {
		t.Errorf("%v", err)
	}
	view := b.view("main")
	if _, kept := view.Point(points[0].ID); !kept {
		t.Errorf("the last point but one that can be restored went, for damaged ones: %+v", done)
	}
	if !slices.ContainsFunc(view.Points, func(r ship.PointRecord) bool { return r.ID == points[2].ID }) {
		t.Error("the damaged point went earlier than without damage: a snapshot or a copy may still heal it")
	}
}
