package ship_test

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"snapd/internal/point"
	"snapd/internal/ship/shiptest"
)

// allLies is every lie, often.
func allLies() shiptest.Lies {
	return shiptest.Lies{Hide: .5, Repeat: .3, Reorder: .3, Invent: .4, Short: .3, Stale: .4, Broken: .2, Empty: .2, Fail: .05, Lost: .05}
}

// diets are what histories are made of, one after the other.
func diets() []diet {
	return []diet{
		{name: "lies", lies: allLies(), lie: .7, days: true, between: .2, steps: 16},
		{name: "hidden keys", lies: shiptest.Lies{Hide: .7, Short: .3, Empty: .3}, lie: .6, days: true, between: .1, steps: 14},
		{name: "invented keys", lies: shiptest.Lies{Invent: 1, Repeat: .5, Reorder: .5}, lie: .8, days: true, between: .1, steps: 14},
		{name: "keys hidden from prunes", lies: shiptest.Lies{Hide: .7, Short: .3, Empty: .3}, lie: .6, keeper: true, days: true, clocks: true, between: .1, steps: 14},
		{name: "keys invented for prunes", lies: shiptest.Lies{Invent: 1}, lie: .8, keeper: true, days: true, clocks: true, between: .1, steps: 14},
		{name: "lost manifests", attack: .15, only: "meta/streams/", steps: 16},
		{name: "days and clocks", between: .4, days: true, clocks: true, steps: 14},
		{name: "attacks", attack: .15, between: .1, steps: 16},
		{name: "junk", attack: .15, junk: true, between: .1, steps: 16},
		{name: "clones", between: .2, clone: true, steps: 16},
		{name: "everything", lies: allLies(), lie: .4, attack: .07, junk: true, between: .3, days: true, clocks: true, clone: true, kill: .1, steps: 22},
	}
}

// TestHistories plays random histories of several hosts with one repository,
// whose listings lie, and judges each delete and each success by what really
// happened. A history that fails is played again by its seed:
//
//	SNAPD_HISTORY="DIET:SEED" go test -run TestHistories -v ./internal/ship
func TestHistories(t *testing.T) {
	all := diets()
	if one := os.Getenv("SNAPD_HISTORY"); one != "" {
		name, number, _ := strings.Cut(one, ":")
		var seed uint64
		if _, err := fmt.Sscan(number, &seed); err != nil {
			t.Fatal(err)
		}
		for _, d := range all {
			if d.name == name {
				faults, story := play(t, seed, d, stateDir(t))
				t.Logf("%s\n%s", strings.Join(story, "\n"), strings.Join(faults, "\n"))
				if len(faults) > 0 {
					t.Fail()
				}
			}
		}
		return
	}
	for _, d := range all {
		t.Run(d.name, func(t *testing.T) { playMany(t, d, uint64(histories/len(all))) })
	}
}

func playMany(t *testing.T, d diet, count uint64) {
	t.Helper()
	began := time.Now()
	var next, failed atomic.Uint64
	t.Run("", func(t *testing.T) {
		for range runtime.GOMAXPROCS(0) {
			t.Run("", func(t *testing.T) {
				t.Parallel()
				root := stateDir(t)
				for failed.Load() == 0 {
					seed := next.Add(1)
					if seed > count {
						return
					}
					faults, story := play(t, seed, d, fmt.Sprintf("%s/%d", root, seed))
					_ = os.RemoveAll(fmt.Sprintf("%s/%d", root, seed))
					if len(faults) > 0 && failed.CompareAndSwap(0, seed) {
						t.Errorf("history %s:%d, after %s:\n%s\n\n%s", d.name, seed, time.Since(began).Round(time.Millisecond),
							strings.Join(story, "\n"), strings.Join(faults, "\n"))
					}
				}
			})
		}
	})
	t.Logf("%s: %d histories in %s", d.name, min(next.Load(), count), time.Since(began).Round(time.Millisecond))
}

// stateDir is for the folders of hosts: in memory, where that can be, because
// they are synced thousands of times.
func stateDir(t *testing.T) string {
	t.Helper()
	d, err := os.MkdirTemp("/dev/shm", "snapd-history-")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { _ = os.RemoveAll(d) })
	return d
}

// play plays one history, in time of its own.
func play(t *testing.T, seed uint64, d diet, root string) (faults, story []string) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w, err := newWorld(seed, d, root)
		if err != nil {
			t.Fatal(err)
		}
		defer w.memory.Hold()()
		for range d.steps {
			w.random()
			if len(w.truth.faults) > 0 {
				break
			}
		}
		if len(w.truth.faults) == 0 {
			w.end()
		}
		w.heard()
		faults, story = w.truth.faults, w.story
	})
	return faults, story
}

// end is what must hold once the store is honest again: what waits is shipped,
// what was damaged is found and healed from the snapshots that are here, what
// is kept can be restored, and what nothing needs goes.
func (w *world) end() {
	w.say("from here on the store is honest")
	w.diet.lie, w.diet.between = 0, 0
	w.lieNow()
	// Twice, because a verify finds only what points need that can be read: a
	// point whose record was damaged is put again by the first ship.
	for round := range 2 {
		if err := w.verify(w.hosts[0]); err != nil && w.diet.attack == 0 {
			w.truth.fault("an honest verify says: %v", err)
		}
		for _, h := range w.hosts {
			for _, p := range h.points {
				if h.ships && len(w.truth.faults) == 0 {
					w.shipAtLast(h, p, round == 1)
				}
			}
		}
	}
	for _, rec := range w.truth.kept() {
		if w.truth.restorable(rec) && w.truth.sound(pointKeyOf(rec.number)) {
			w.lieNow()
			if err := w.restore(rec); err != nil {
				w.truth.fault("point %d (%s) is all there and cannot be restored at the end: %v", rec.number, w.named(rec.id), err)
			}
		} else if w.diet.attack == 0 {
			w.truth.fault("point %d (%s) is not whole at the end", rec.number, w.named(rec.id))
		}
	}
	if w.diet.attack == 0 && len(w.truth.faults) == 0 {
		w.clean()
	}
}

// shipAtLast ships a point to an honest store.
func (w *world) shipAtLast(h *host, p *localPoint, final bool) {
	here := true
	for origin, guid := range p.guids {
		here = here && slices.Contains(h.snaps[origin], guid)
	}
	var err error
	for range 20 {
		w.lieNow()
		w.say("%s ships %s at last", h.name, w.named(p.id))
		if err = w.ship(h, p, -1); !errors.Is(err, errClone) {
			break
		}
	}
	w.say("that says: %v", err)
	rec := w.truth.valid(p.id)
	switch {
	case errors.Is(err, errDropped) || !here && err != nil:
	case err != nil && final && w.diet.attack == 0:
		w.truth.fault("%s cannot be shipped to an honest store: %v", w.named(p.id), err)
	case err == nil && rec == nil && len(w.truth.attacked) > 0 && w.truth.asked[p.id]:
		// It was dropped, and an attacker destroyed the record that said so.
	case err == nil && rec == nil:
		w.truth.fault("the ship of %s said success, and there is no such point", w.named(p.id))
	case err == nil && here && final && w.truth.sound(pointKeyOf(rec.number)) && !w.truth.restorable(rec):
		w.truth.fault("the ship of %s said success after a verify, its snapshots are here, and it is not whole", w.named(p.id))
	}
}

// clean ends what was left unfinished, and prunes until nothing more goes.
func (w *world) clean() {
	if err := w.giveUpUploads(); err != nil {
		w.truth.fault("give up what was unfinished: %v", err)
		return
	}
	time.Sleep(8 * 24 * time.Hour)
	for round := range 5 {
		var drop []point.ID
		if kept := w.truth.kept(); round == 1 && len(kept) > 1 {
			drop = append(drop, kept[w.rng.IntN(len(kept)-1)].id)
		}
		w.lieNow()
		said, err := w.prune(w.hosts[1], drop, time.Now(), false, true)
		w.say("an honest prune says: %s: %v", said, err)
		if err != nil {
			w.truth.fault("an honest prune says: %s: %v", said, err)
			return
		}
		for _, id := range drop {
			if w.truth.valid(id) != nil {
				w.truth.fault("%s was to be dropped by an honest prune, and was not", w.named(id))
			}
		}
	}
	for _, key := range w.truth.surplus() {
		w.truth.fault("%s is left, and nothing needs it", w.liar.Words(key))
	}
	for _, rec := range w.truth.kept() {
		w.readBack(rec, "after the last prune")
	}
}
