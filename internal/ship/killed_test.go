package ship_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"snapd/internal/point"
	"snapd/internal/ship/shiptest"
)

// scripted is a world in which nothing is left to chance: four points of one
// dataset, of which the second and third build on the one before, the second
// was dropped, and the fourth is a full stream; and an upload on that one which
// was interrupted.
func scripted(t *testing.T) *world {
	t.Helper()
	w, err := newWorld(1, diet{}, stateDir(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.memory.Hold())
	for i := range 4 {
		w.takeOne()
		w.lastPoint().full["data"] = i == 3
		if err := w.ship(w.hosts[0], w.lastPoint(), -1); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := w.dropPoint(1); err != nil {
		t.Fatal(err)
	}
	w.takeOne()
	if err := w.ship(w.hosts[0], w.lastPoint(), sliceHere); err == nil {
		t.Fatal("the sender did not fail")
	}
	return w
}

func (w *world) lastPoint() *localPoint { return w.hosts[0].points[len(w.hosts[0].points)-1] }

// takeOne takes a point of the dataset data.
func (w *world) takeOne() {
	h := w.hosts[0]
	w.lieNow()
	w.serial++
	guid := fmt.Sprintf("long-%d", w.serial)
	h.snaps["data"] = append(h.snaps["data"], guid)
	h.points = append(h.points, newLocalPoint(point.NewID(time.Now()), map[string]string{"data": guid}))
}

// dropPoint drops a point by its place.
func (w *world) dropPoint(i int) (string, error) {
	w.lieNow()
	return w.prune(w.hosts[0], []point.ID{w.hosts[0].points[i].id}, time.Now(), false, false)
}

// TestKilledAtEveryWrite kills each operation after each of its writes: the
// next call ends it, nothing that is needed went, and nothing is left over.
func TestKilledAtEveryWrite(t *testing.T) {
	for name, op := range map[string]struct {
		prepare func(w *world)
		do      func(w *world) error
	}{
		"ship": {do: func(w *world) error { return w.ship(w.hosts[0], w.lastPoint(), -1) }},
		"lease": { // renewed twice in each segment
			prepare: func(w *world) { w.slow = 25 * time.Minute },
			do:      func(w *world) error { return w.ship(w.hosts[0], w.lastPoint(), -1) },
		},
		"drop": {do: func(w *world) error { _, err := w.dropPoint(2); return err }},
		"prune": { // of what a drop by another host left, the state lost
			prepare: func(w *world) {
				w.mortal = shiptest.NewMortal(w.liar, 1)
				_, _ = w.dropPoint(0)
				w.mortal = nil
				w.forget(w.hosts[1])
			},
			do: func(w *world) error {
				_, err := w.prune(w.hosts[1], nil, time.Now(), false, false)
				return err
			},
		},
		"heal": {
			prepare: func(w *world) {
				key := w.truth.Keys("data/")[0]
				w.truth.attack(key, nil)
			},
			do: func(w *world) error {
				if err := w.verify(w.hosts[0]); err != nil {
					return err
				}
				for i := range 4 {
					if err := w.ship(w.hosts[0], w.hosts[0].points[i], -1); err != nil && i != 1 {
						return err
					}
				}
				return nil
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			writes := 0
			for alive := true; alive; writes++ {
				synctest.Test(t, func(t *testing.T) {
					w := scripted(t)
					if op.prepare != nil {
						op.prepare(w)
					}
					w.lieNow()
					w.mortal = shiptest.NewMortal(w.liar, writes)
					err := op.do(w)
					alive = w.mortal.Died()
					if !alive && err != nil {
						t.Fatalf("with time for %d writes: %v", writes, err)
					}
					w.mortal, w.slow = nil, 0
					w.endsWhole(t, fmt.Sprintf("after %d writes", writes), op.do)
				})
				if t.Failed() {
					return
				}
			}
			t.Logf("%s: killed after each of its %d writes", name, writes-1)
		})
	}
}

// endsWhole does the operation again, and looks what there is then.
func (w *world) endsWhole(t *testing.T, when string, do func(w *world) error) {
	t.Helper()
	w.lieNow()
	if err := do(w); err != nil {
		t.Errorf("%s: the next call says: %v", when, err)
	}
	if err := w.ship(w.hosts[0], w.lastPoint(), -1); err != nil {
		t.Errorf("%s: the next ship says: %v", when, err)
	}
	for _, rec := range w.truth.kept() {
		if err := w.restore(rec); err != nil {
			t.Errorf("%s: point %d: %v", when, rec.number, err)
		}
	}
	if err := w.giveUpUploads(); err != nil {
		t.Errorf("%s: %v", when, err)
	}
	time.Sleep(8 * 24 * time.Hour)
	for range 2 {
		if _, err := w.prune(w.hosts[1], nil, time.Now(), false, true); err != nil {
			t.Errorf("%s: the last prune says: %v", when, err)
		}
	}
	left := slices.DeleteFunc(w.truth.surplus(), func(key string) bool { return w.truth.attacked[key] })
	if len(left) > 0 || len(w.truth.faults) > 0 {
		t.Errorf("%s: left over: %q\n%s", when, left, strings.Join(w.truth.faults, "\n"))
	}
}
