package shiptest

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"

	"snapd/internal/ship"
)

// List lies.
func (l *Liar) List(ctx context.Context, prefix string, each func(ship.Object) error) error {
	var objects []ship.Object
	err := l.store.List(ctx, prefix, func(o ship.Object) error {
		objects = append(objects, o)
		return nil
	})
	if err != nil {
		return err
	}
	objects, broken := l.listing(prefix, objects)
	for _, o := range objects {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := each(o); err != nil {
			return err
		}
	}
	return broken
}

// listing is what is told instead of the truth.
func (l *Liar) listing(prefix string, objects []ship.Object) ([]ship.Object, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	r := l.chance("list", prefix)
	did := func(chance float64) bool { return chance > 0 && r.Float64() < chance }
	name := l.words(prefix)
	if did(l.lies.Empty) && len(objects) > 0 {
		l.tell("list %s: nothing there (of %d)", name, len(objects))
		return nil, nil
	}
	if did(l.lies.Stale) && len(l.past) > 0 {
		back := 1 + r.IntN(len(l.past))
		l.tell("list %s: as it was %d writes ago", name, back)
		objects = l.stale(prefix, objects, back)
	}
	if did(l.lies.Hide) {
		objects = l.hide(name, objects, r)
	}
	if did(l.lies.Invent) {
		for range 1 + r.IntN(3) {
			o := invent(prefix, objects, r)
			l.tell("list %s: invented %s", name, l.words(o.Key))
			objects = append(objects, o)
		}
		slices.SortStableFunc(objects, func(a, b ship.Object) int { return strings.Compare(a.Key, b.Key) })
	}
	if did(l.lies.Repeat) && len(objects) > 0 {
		at := r.IntN(len(objects))
		l.tell("list %s: %s comes twice", name, l.words(objects[at].Key))
		objects = slices.Insert(objects, r.IntN(len(objects)+1), objects[at])
	}
	if did(l.lies.Reorder) {
		if r.IntN(2) == 0 {
			l.tell("list %s: backwards", name)
			slices.Reverse(objects)
		} else {
			l.tell("list %s: in disorder", name)
			r.Shuffle(len(objects), func(i, j int) { objects[i], objects[j] = objects[j], objects[i] })
		}
	}
	if did(l.lies.Short) && len(objects) > 0 {
		n := r.IntN(len(objects))
		l.tell("list %s: ends after %d of %d", name, n, len(objects))
		objects = objects[:n]
	}
	if did(l.lies.Broken) {
		n := r.IntN(len(objects) + 1)
		l.tell("list %s: fails after %d of %d", name, n, len(objects))
		return objects[:n], fmt.Errorf("list %s: %w", prefix, ship.ErrUnavailable)
	}
	return objects, nil
}

// hide leaves out one key, or all with a common beginning, or each with a
// chance.
func (l *Liar) hide(name string, objects []ship.Object, r *rand.Rand) []ship.Object {
	if len(objects) == 0 {
		return objects
	}
	var gone func(i int, o ship.Object) bool
	one := r.IntN(len(objects))
	switch r.IntN(4) {
	case 0, 1:
		gone = func(i int, _ ship.Object) bool { return i == one }
	case 2:
		kind := objects[one].Key[:strings.LastIndexByte(objects[one].Key, '/')+1]
		gone = func(_ int, o ship.Object) bool { return strings.HasPrefix(o.Key, kind) }
	default:
		p := r.Float64()
		gone = func(int, ship.Object) bool { return r.Float64() < p }
	}
	var left []ship.Object
	for i, o := range objects {
		if gone(i, o) {
			l.tell("list %s: hid %s", name, l.words(o.Key))
		} else {
			left = append(left, o)
		}
	}
	return left
}

func (l *Liar) stale(prefix string, objects []ship.Object, back int) []ship.Object {
	was := map[string]ship.Object{}
	for _, o := range objects {
		was[o.Key] = o
	}
	for _, c := range slices.Backward(l.past[len(l.past)-back:]) {
		if !strings.HasPrefix(c.object.Key, prefix) {
			continue
		}
		if c.deleted {
			was[c.object.Key] = c.object
		} else {
			delete(was, c.object.Key)
		}
	}
	var out []ship.Object
	for _, o := range was {
		out = append(out, o)
	}
	slices.SortFunc(out, func(a, b ship.Object) int { return strings.Compare(a.Key, b.Key) })
	return out
}
