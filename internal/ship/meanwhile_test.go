package ship_test

import (
	"context"
	"errors"
	"io"
	"testing"
	"testing/synctest"
	"time"

	"snapd/internal/point"
	"snapd/internal/ship"
	"snapd/internal/ship/shiptest"
)

// ownPoint is a record of a point with these streams.
func ownPoint(t *testing.T, streams ...ship.Stream) ship.PointRecord {
	t.Helper()
	rec := ship.PointRecord{ID: point.NewID(time.Now()), Host: "host-1", Time: time.Now(), Consistency: point.Crash}
	for _, s := range streams {
		in, err := s.InPoint("btrfs")
		if err != nil {
			t.Fatal(err)
		}
		rec.Streams = append(rec.Streams, in)
	}
	return rec
}

// TestAFinishedStreamKeepsItsLease: one dataset of a point is uploaded, and the next one
// takes nine days: a prune on another host, where a person says that nothing is
// shipping, spares both (history keys hidden from prunes:6244).
func TestAFinishedStreamKeepsItsLease(t *testing.T) {
	data := noise(2, 3*slice)
	synctest.Test(t, func(t *testing.T) {
		store := shiptest.NewMemory()
		b := newBench(t, store)
		w := b.host()
		b.point(w, b.upload(w, full("g0"), noise(0, slice)))
		first, err := w.Upload(t.Context(), full("g1"), source(noise(1, 2*slice)), b.records, nil)
		if err != nil {
			t.Fatal(err)
		}
		prune := func() {
			time.Sleep(9 * 24 * time.Hour)
			got, err := b.host().Prune(t.Context(), nil, nil, ship.PruneOptions{Now: time.Now(), Orphans: true})
			if err != nil || got.Objects != 0 {
				t.Errorf("got %+v, %v", got, err)
			}
		}
		other := full("h1")
		other.Origin = "origin-2"
		second, err := w.Upload(t.Context(), other, func(context.Context) (io.ReadCloser, error) {
			return io.NopCloser(&slow{rest: data, middle: slice, do: prune}), nil
		}, b.records, nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.PutPoint(t.Context(), ownPoint(t, first, second), nil); err != nil {
			t.Error(err)
		}
		b.told(w, first)
		b.told(w, second)
		if left := store.Keys("meta/leases/"); len(left) != 0 {
			t.Errorf("leases are left: %v", left)
		}
		verifyClean(t, b)
	})
}

// TestAPointBehindAnEventThatCannotBeReadIsLookedAt: the leases of its streams were
// hidden from a prune, which removed one by record, and the record was damaged: no
// host can read it, and success must not be said (history everything:6040).
func TestAPointBehindAnEventThatCannotBeReadIsLookedAt(t *testing.T) {
	for name, deleted := range map[string]bool{"the stream was removed": true, "it is all there": false} {
		store := shiptest.NewMemory()
		b := newBench(t, store)
		w := b.host()
		b.point(w, b.upload(w, full("g0"), noise(0, slice)))
		s, err := w.Upload(t.Context(), full("g1"), source(noise(1, 2*slice)), b.records, nil)
		if err != nil {
			t.Fatal(err)
		}
		b.told(w, s)
		if deleted {
			if got, err := b.host().Prune(t.Context(), nil, nil, ship.PruneOptions{Now: time.Now(), Orphans: true}); err != nil || got.Objects == 0 {
				t.Fatalf("%+v, %v", got, err)
			}
		}
		store.Tamper("meta/ledger/0000000001", []byte("damaged"))
		rec := ownPoint(t, s)
		_, err = w.PutPoint(t.Context(), rec, look(t, w, nil, ship.Whole))
		if deleted != errors.Is(err, ship.ErrDamaged) || !deleted && err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}
