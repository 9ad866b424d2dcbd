package ship_test

import (
	"context"
	"errors"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"snapd/internal/point"
	"snapd/internal/ship"
	"snapd/internal/ship/shiptest"

	"filippo.io/age"
)

const (
	day       = 24 * time.Hour
	lockedFor = 30 * day
)

// lockedBench is a repository in a store that locks for thirty days.
func lockedBench(t *testing.T) (*bench, *shiptest.Locked, *ship.Cache) {
	t.Helper()
	store := shiptest.NewLocked(lockedFor, time.Now)
	b := newBench(t, store)
	c, err := ship.OpenCache(filepath.Join(t.TempDir(), "cache"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return b, store, c
}

// shipped ships a stream with a point, and extends locks as the agent does.
func shipped(t *testing.T, b *bench, c *ship.Cache, h ship.Head, data []byte) (ship.Stream, ship.Extended) {
	t.Helper()
	r := b.host()
	s := b.upload(r, h, data)
	b.point(r, s)
	done, err := r.ExtendLocks(t.Context(), look(t, r, c, ship.Known), []point.ID{s.ID}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	return s, done
}

func lockOf(t *testing.T, store ship.Locker, key string) time.Time {
	t.Helper()
	l, err := store.LockOf(t.Context(), key)
	if err != nil {
		t.Fatal(err)
	}
	return l.Until
}

// TestNoLockOfABaseEndsBeforeItsDependants: once a bucket's locks ended on the old
// bases while everything depended on them.
func TestNoLockOfABaseEndsBeforeItsDependants(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, store, c := lockedBench(t)
		base, _ := shipped(t, b, c, full("g0"), noise(1, 5*slice))
		keys := append(store.Keys("data/"+string(base.ID)), base.Key, "repository")
		if len(keys) != 5+2 {
			t.Fatalf("the base has %q", keys)
		}
		store.Extended()
		calls, idle := 0, 0
		for n := 2; n <= 60; n += 2 {
			time.Sleep(2 * day)
			s, done := shipped(t, b, c, on(base, "g"+string(point.NewID(time.Now()))), noise(uint64(n), slice))
			extended, asked := store.Extended()
			calls += len(extended)
			if len(extended) > 0 && !slices.Equal(extended, sorted(keys)) {
				t.Errorf("day %d: extended %q", n, extended)
			}
			if len(extended) != done.Objects || done.Refused != nil {
				t.Errorf("day %d: extended %d, said %+v", n, len(extended), done)
			}
			if len(extended) == 0 && asked <= 1 {
				idle++
			}
			until := lockOf(t, store, s.Key)
			for _, key := range keys {
				if got := lockOf(t, store, key); got.Before(until.Add(-lockedFor/10)) || got.After(until) {
					t.Errorf("day %d: %s is locked until %s, the newest stream until %s", n, key, got, until)
				}
			}
			store.Extended()
		}
		// Every fourth day, when it is behind by more than three days.
		if calls != len(keys)*60/4 || idle != 15 {
			t.Errorf("%d locks extended of %d objects in 60 days, %d ships asked for one lock", calls, len(keys), idle)
		}
	})
}

func sorted(keys []string) []string {
	keys = slices.Clone(keys)
	slices.Sort(keys)
	return keys
}

// TestLocksThatCannotBeExtended fail nothing, are told once, and are extended
// when the right is there. The memory may be lost.
func TestLocksThatCannotBeExtended(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, store, c := lockedBench(t)
		base, _ := shipped(t, b, c, full("g0"), noise(1, 3*slice))
		store.Refuse = ship.ErrDenied
		for n, again := range []bool{false, true} {
			time.Sleep(5 * day)
			_, done := shipped(t, b, c, on(base, "g1"+string(rune('a'+n))), noise(2, slice))
			if !errors.Is(done.Refused, ship.ErrDenied) || done.Again != again || done.Objects != 0 {
				t.Errorf("refused: %+v", done)
			}
		}
		v := look(t, b.host(), c, ship.Known)
		if l, err := b.host().OldestBase(t.Context(), v); err != nil || !l.Base.Equal(base.ID.Time()) || !l.Until.Equal(lockOf(t, store, base.Key)) || l.Newest.Sub(l.Base) != 10*day {
			t.Errorf("the oldest base: %+v, %v", l, err)
		}
		store.Refuse = nil
		_, done := shipped(t, b, nil, on(base, "g2"), noise(3, slice)) // without a memory
		if done.Refused != nil || done.Objects != 3+2 || done.Streams != 1 {
			t.Errorf("allowed: %+v", done)
		}
		// The memory of before knows less than is so: that costs requests, once.
		if _, done = shipped(t, b, c, on(base, "g3"), noise(4, slice)); done.Objects != 3+2 {
			t.Errorf("with an old memory: %+v", done)
		}
		store.Extended()
		_, done = shipped(t, b, c, on(base, "g4"), noise(5, slice))
		if _, asked := store.Extended(); done.Objects != 0 || asked != 1 {
			t.Errorf("asked %d times, %+v", asked, done)
		}
	})
}

// TestStoresWithoutLocks are asked once a day.
func TestStoresWithoutLocks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, store, c := lockedBench(t)
		store.Period = 0
		base, _ := shipped(t, b, c, full("g0"), noise(1, slice))
		for n := range 5 {
			time.Sleep(time.Hour)
			shipped(t, b, c, on(base, "g1"+string(rune('a'+n))), noise(2, slice))
		}
		if extended, asked := store.Extended(); len(extended) != 0 || asked != 1 {
			t.Errorf("extended %q, asked %d times", extended, asked)
		}
		store.Period = lockedFor // it was made a bucket with locks
		if _, done := shipped(t, b, c, on(base, "g2"), noise(2, slice)); done.Objects != 0 {
			t.Errorf("not asked yet: %+v", done)
		}
		time.Sleep(20 * time.Hour)
		if _, done := shipped(t, b, c, on(base, "g3"), noise(2, slice)); done.Objects != 1+1 {
			t.Errorf("got %+v", done)
		}
	})
}

// deleteAll is what an intruder with the host's keys can do.
func deleteAll(t *testing.T, store *shiptest.Locked) {
	t.Helper()
	for _, key := range store.Keys("") {
		if err := store.Delete(t.Context(), key); err != nil {
			t.Fatal(err)
		}
	}
}

func (b *bench) hidden() *ship.Repository {
	b.t.Helper()
	r, err := ship.Open(b.t.Context(), ship.Retry(b.store, ship.RetryPolicy{}), ship.OpenOptions{Signer: b.signer, Recipients: recipients(b), Identities: identities(b), Hidden: true})
	if err != nil {
		b.t.Fatal(err)
	}
	return r
}

// TestReadBehindDeleteMarkers: everything is read from its versions, by readers
// alone; what prune removed stays removed, and what another put on top is not
// taken for ours.
func TestReadBehindDeleteMarkers(t *testing.T) {
	b, store, _ := lockedBench(t)
	w := b.host()
	data := noise(1, 5*slice)
	s1 := b.upload(w, full("g1"), data)
	b.point(w, s1)
	s2 := b.upload(w, on(s1, "g2"), noise(2, slice))
	p2 := b.point(w, s2)
	s3 := b.upload(w, on(s1, "g3"), noise(3, slice))
	b.point(w, s3)
	if _, err := w.Prune(t.Context(), nil, []point.ID{p2}, later()); err != nil {
		t.Fatal(err)
	}
	// Junk on top of three objects, then nothing at all.
	for _, key := range []string{"repository", s3.Key, store.Keys("data/" + string(s1.ID))[1]} {
		if err := store.Put(t.Context(), key, []byte("junk"), false); err != nil {
			t.Fatal(err)
		}
	}
	deleteAll(t, store)

	_, err := ship.Open(t.Context(), b.store, ship.OpenOptions{Signer: b.signer, Recipients: recipients(b)})
	if !errors.Is(err, ship.ErrDeleted) || errors.Is(err, ship.ErrNotRepository) || !strings.Contains(err.Error(), "versions below the prefix are there") {
		t.Errorf("a writer: %v", err)
	}
	r := b.hidden()
	v := look(t, r, nil, ship.Whole)
	if len(v.Points) != 2 || v.HasPoint(2) || !v.Dropped(p2) || len(v.Damage()) != 0 {
		t.Errorf("points %+v, damage %+v", v.Points, v.Damage())
	}
	if len(v.Problems) != 1 || len(v.Notes) != 0 || v.Problems[0].Kind != ship.KindHidden || !strings.Contains(v.Problems[0].Problem, "more)") {
		t.Errorf("problems: %+v", v.Problems)
	}
	if got, err := b.read(r, s1.ID); err != nil || string(got) != string(data) {
		t.Errorf("read %d bytes, %v", len(got), err)
	}
	if _, err := b.read(r, s3.ID); err != nil {
		t.Error(err)
	}
	if _, err := r.Upload(t.Context(), full("g4"), source(data), nil, nil); !errors.Is(err, ship.ErrReadOnly) {
		t.Errorf("upload: %v", err)
	}
	if _, err := r.Prune(t.Context(), v, nil, later()); !errors.Is(err, ship.ErrReadOnly) {
		t.Errorf("prune: %v", err)
	}
}

// TestNothingIsBuiltOnWhatIsHidden: a writer does not read versions.
func TestNothingIsBuiltOnWhatIsHidden(t *testing.T) {
	b, store, _ := lockedBench(t)
	w := b.host()
	s := b.upload(w, full("g1"), noise(1, 3*slice))
	b.point(w, s)
	if err := store.Delete(t.Context(), store.Keys("data/" + string(s.ID))[1]); err != nil {
		t.Fatal(err)
	}
	_, err := w.Upload(t.Context(), on(s, "g2"), source(noise(2, slice)), nil, nil)
	if _, unfit := errors.AsType[*ship.UnfitBase](err); !unfit {
		t.Errorf("got %v", err)
	}
	r := b.hidden()
	if v := look(t, r, nil, ship.Whole); len(v.Points) != 1 || len(v.Problems) != 0 {
		t.Errorf("nothing that was looked at is hidden: %+v", v.Problems)
	}
	if _, err := b.read(r, s.ID); err != nil {
		t.Errorf("a reader: %v", err)
	}
}

func recipients(b *bench) []age.Recipient { return []age.Recipient{b.identity.Recipient()} }

func identities(b *bench) []age.Identity { return []age.Identity{b.identity} }

// quick is a store with versions that can list from the middle.
type quick struct {
	*shiptest.Locked
	after atomic.Int32
}

func (q *quick) ListAfter(ctx context.Context, prefix, after string, each func(ship.Object) error) error {
	q.after.Add(1)
	return q.List(ctx, prefix, func(o ship.Object) error {
		if o.Key <= after {
			return nil
		}
		return each(o)
	})
}

// TestAReaderOfVersionsIsAsQuick: what stands between a reader and a store with
// versions hides nothing that the store can do. list took half as long again.
func TestAReaderOfVersionsIsAsQuick(t *testing.T) {
	b, store, _ := lockedBench(t)
	w := b.host()
	s1 := b.upload(w, full("g1"), noise(1, slice))
	b.point(w, s1)
	q := &quick{Locked: store}
	b.store = q
	r := b.hidden()
	if v := look(t, r, nil, ship.Whole); len(v.Points) != 1 || q.after.Load() != 1 {
		t.Errorf("%d points, %d halves of listings, want 1 and 1", len(v.Points), q.after.Load())
	}
}
