package ship_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"snapd/internal/ship"
	"snapd/internal/ship/shiptest"

	"filippo.io/age"
)

// TestResumeProvesWhatIsThere: a segment of the right name and size that holds
// something else was once committed. Stores with ETags prove it by them, the
// others by what they give.
func TestResumeProvesWhatIsThere(t *testing.T) {
	const segments, bad = 12, 5
	data := noise(9, segments*slice)
	for name, etags := range map[string]bool{"ETags": true, "no ETags": false} {
		t.Run(name, func(t *testing.T) {
			store := shiptest.NewMemory()
			store.ETags = etags
			b := newBench(t, store)
			interrupt(t, b, full("g1"), data)
			gets := store.Requests("get")
			key := store.Keys("data/")[bad]
			shiptest.FlipBit(t, store, key)
			s := b.upload(b.host(), full("g1"), data)
			if s.Uploaded != 1 || s.Reused != segments-1 {
				t.Errorf("got %+v, want the flipped segment put again", s)
			}
			// Those of the test, the description of the repository, the manifest
			// that was not put yet, and the flipped segment.
			if got := store.Requests("get") - gets; etags && got > 4 {
				t.Errorf("%d objects were fetched, although the store has ETags", got)
			}
			if got, err := b.read(b.reader(), s.ID); err != nil || !bytes.Equal(got, data) {
				t.Errorf("read back: %d bytes, %v", len(got), err)
			}
		})
	}
}

// TestResumeWhereAListingLies: what it lacks is asked for by name, and used.
func TestResumeWhereAListingLies(t *testing.T) {
	const segments = 12
	data := noise(9, segments*slice)
	store := shiptest.NewMemory()
	store.ETags = true
	b := newBench(t, store)
	interrupt(t, b, full("g1"), data)
	b.store = shiptest.NewFaults(store, shiptest.Fault{Op: "list", Key: "data/", Nth: 1, Always: true, Listed: func(all []ship.Object) []ship.Object {
		return all[:len(all)/3]
	}})
	if s := b.upload(b.host(), full("g1"), data); s.Uploaded != 0 || s.Reused != segments {
		t.Errorf("got %+v", s)
	}
}

// TestSegmentsLostBeforeTheCommit: what the store acknowledged and does not
// have is put again; where it stays away, nothing is committed.
func TestSegmentsLostBeforeTheCommit(t *testing.T) {
	const segments = 12
	data := noise(9, segments*slice)
	lose := func(store *shiptest.Memory, change func([]byte) []byte) func() {
		return func() {
			third := strings.SplitN(store.Keys("data/")[0], "/", 3)
			for _, key := range store.Keys(third[0] + "/" + third[1] + "/00000003-") { // one more with each try
				store.Tamper(key, change(store.Object(key)))
			}
		}
	}
	for name, change := range map[string]func([]byte) []byte{
		"gone":    func([]byte) []byte { return nil },
		"shorter": func(o []byte) []byte { return o[1:] },
	} {
		t.Run(name, func(t *testing.T) {
			store := shiptest.NewMemory()
			b := newBench(t, store)
			b.store = shiptest.NewFaults(store, shiptest.Fault{Op: "list", Key: "data/", Nth: 1, Do: lose(store, change)})
			s := b.upload(b.host(), full("g1"), data)
			if s.Uploaded != 1 || s.Reused != segments-1 {
				t.Errorf("got %+v, want one put again", s)
			}
			if got, err := b.read(b.reader(), s.ID); err != nil || !bytes.Equal(got, data) {
				t.Errorf("read back: %d bytes, %v", len(got), err)
			}
		})
		t.Run(name+" again and again", func(t *testing.T) {
			store := shiptest.NewMemory()
			b := newBench(t, store)
			b.store = shiptest.NewFaults(store, shiptest.Fault{Op: "list", Key: "data/", Nth: 1, Always: true, Do: lose(store, change)})
			_, err := b.host().Upload(t.Context(), full("g1"), source(data), b.records, nil)
			if err == nil || !strings.Contains(err.Error(), "data/") || len(store.Keys("meta/streams/")) != 0 {
				t.Errorf("got %v, committed %q", err, store.Keys("meta/streams/"))
			}
		})
	}
	t.Run("a listing that hides them all", func(t *testing.T) {
		store := shiptest.NewMemory()
		b := newBench(t, store)
		b.store = shiptest.NewFaults(store, shiptest.Fault{Op: "list", Nth: 1, Always: true, Listed: func([]ship.Object) []ship.Object { return nil }})
		if s := b.upload(b.host(), full("g1"), data); s.Uploaded != segments {
			t.Errorf("got %+v", s)
		}
	})
}

// TestBasesThatAreUnfit: nothing is built on what cannot be read, and it is
// said why.
func TestBasesThatAreUnfit(t *testing.T) {
	data := noise(9, 6*slice)
	cases := []struct {
		name    string
		spoil   func(t *testing.T, b *bench, store *shiptest.Memory, base ship.Stream)
		why     string
		damaged int
	}{
		{"a segment is missing", func(_ *testing.T, _ *bench, store *shiptest.Memory, _ ship.Stream) {
			store.Tamper(store.Keys("data/")[2], nil)
		}, "it is missing", 1},
		{"two are shorter", func(_ *testing.T, _ *bench, store *shiptest.Memory, _ ship.Stream) {
			for _, key := range store.Keys("data/")[2:4] {
				store.Tamper(key, store.Object(key)[1:])
			}
		}, "1 more like it", 2},
		{"its manifest is damaged", func(t *testing.T, _ *bench, store *shiptest.Memory, base ship.Stream) {
			shiptest.FlipBit(t, store, base.Key)
		}, "signature", 1},
		{"its manifest is gone", func(_ *testing.T, _ *bench, store *shiptest.Memory, base ship.Stream) {
			store.Tamper(base.Key, nil)
		}, "not found", 1},
		{"other recipients", func(t *testing.T, b *bench, _ *shiptest.Memory, _ ship.Stream) {
			other, err := age.GenerateX25519Identity()
			if err != nil {
				t.Fatal(err)
			}
			b.identity = other
		}, "other recipients", 0},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			store := shiptest.NewMemory()
			b := newBench(t, store)
			base := b.upload(b.host(), full("g1"), data)
			c.spoil(t, b, store, base)
			_, err := b.host().Upload(t.Context(), on(base, "g2"), source(data), b.records, nil)
			unfit, ok := errors.AsType[*ship.UnfitBase](err)
			if !ok || unfit.Base != base.ID || !strings.Contains(unfit.Error(), c.why) || len(unfit.Damage) != c.damaged {
				t.Fatalf("got %v (%+v), want a base that is unfit because %q", err, unfit, c.why)
			}
			if heads, _ := b.records.Active(); len(heads) != 0 || len(store.Keys("meta/leases/")) != 0 {
				t.Errorf("begun: %v, %q", heads, store.Keys("meta/leases/"))
			}
			h := full("g2")
			h.Full = unfit.Error()
			if s := b.upload(b.host(), h, data); s.Full != unfit.Error() {
				t.Errorf("full because %q", s.Full)
			}
		})
	}
	t.Run("a listing that hides it", func(t *testing.T) {
		store := shiptest.NewMemory()
		b := newBench(t, store)
		base := b.upload(b.host(), full("g1"), data)
		b.store = shiptest.NewFaults(store, shiptest.Fault{Op: "list", Nth: 1, Always: true, Listed: func([]ship.Object) []ship.Object { return nil }})
		b.upload(b.host(), on(base, "g2"), data)
	})
}

// TestSpoiltManifestBeginsAnew: what was committed and is damaged is left alone.
func TestSpoiltManifestBeginsAnew(t *testing.T) {
	data := noise(9, 5*slice)
	store := shiptest.NewMemory()
	b := newBench(t, store)
	first, err := b.host().Upload(t.Context(), full("g1"), source(data), b.records, nil)
	if err != nil {
		t.Fatal(err)
	}
	// The process died before a point named it, and then a bit was flipped:
	// that once ended every later ship of the dataset.
	shiptest.FlipBit(t, store, first.Key)
	s := b.upload(b.host(), full("g1"), data)
	if s.ID == first.ID || s.Uploaded != 5 {
		t.Errorf("got %+v", s)
	}
	if got, err := b.read(b.reader(), s.ID); err != nil || !bytes.Equal(got, data) {
		t.Errorf("read back: %d bytes, %v", len(got), err)
	}
}

// TestCaseFoldingStore: guids that differ only in their case do no harm.
func TestCaseFoldingStore(t *testing.T) {
	store := shiptest.NewMemory()
	store.Fold = true
	b := newBench(t, store)
	for i, guid := range []string{"AbC-1", "aBc-1"} {
		data := noise(uint64(i), 3*slice)
		s := b.upload(b.host(), full(guid), data)
		if got, err := b.read(b.reader(), s.ID); err != nil || !bytes.Equal(got, data) {
			t.Errorf("%s: read back: %d bytes, %v", guid, len(got), err)
		}
	}
	if len(store.Rewrites()) != 0 || len(store.Keys("meta/streams/")) != 2 {
		t.Errorf("rewritten %q, streams %q", store.Rewrites(), store.Keys("meta/streams/"))
	}
}

// TestLeases: one lies there before the first segment, is renewed while the
// upload lasts, and stays until it is ended.
func TestLeases(t *testing.T) {
	data := noise(9, 5*slice)
	synctest.Test(t, func(t *testing.T) {
		store := shiptest.NewMemory()
		b := newBench(t, store)
		base := b.upload(b.host(), full("g1"), data)
		var during []string
		open := func(context.Context) (io.ReadCloser, error) {
			for range 4 {
				during = append(during, store.Keys("meta/leases/")...)
				time.Sleep(10*time.Minute + time.Second)
			}
			return io.NopCloser(bytes.NewReader(data)), nil
		}
		w := b.host()
		s, err := w.Upload(t.Context(), on(base, "g2"), open, b.records, nil)
		if err != nil {
			t.Fatal(err)
		}
		name := "meta/leases/" + string(s.ID)
		if want := []string{name + ".000001", name + ".000002", name + ".000003", name + ".000004"}; !slices.Equal(during, want) {
			t.Errorf("while it lasted: %q, want %q", during, want)
		}
		leases, problems, err := w.Leases(t.Context())
		if err != nil || len(problems) != 0 || len(leases) != 1 || leases[0].Stream != s.ID || leases[0].Base != base.ID ||
			leases[0].Count != 5 || leases[0].Host != "host-1" || leases[0].PutTime.IsZero() {
			t.Errorf("leases %+v, problems %v, %v", leases, problems, err)
		}
		lists := store.Requests("list")
		if err := w.EndLease(t.Context(), s.ID); err != nil || len(store.Keys("meta/leases/")) != 0 || store.Requests("list") != lists {
			t.Errorf("ended: %v, left %q, %d listings", err, store.Keys("meta/leases/"), store.Requests("list")-lists)
		}
		time.Sleep(time.Hour)
		if keys := store.Keys("meta/leases/"); len(keys) != 0 {
			t.Errorf("renewed after its end: %q", keys)
		}
	})
}

// TestLeasesAfterACrash: the next process goes on with the next count, and ends
// what an earlier one began, whatever a listing hides.
func TestLeasesAfterACrash(t *testing.T) {
	data := noise(9, 5*slice)
	store := shiptest.NewMemory()
	b := newBench(t, store)
	interrupt(t, b, full("g1"), data)
	hidden := shiptest.NewFaults(store, shiptest.Fault{Op: "list", Key: "meta/leases/", Nth: 1, Always: true, Listed: func([]ship.Object) []ship.Object { return nil }})
	b.store = hidden
	s, err := b.host().Upload(t.Context(), full("g1"), source(data), b.records, nil)
	if err != nil {
		t.Fatal(err)
	}
	b.store = store
	leases, problems, err := b.host().Leases(t.Context())
	if err != nil || len(problems) != 0 || len(leases) != 1 || leases[0].Stream != s.ID || leases[0].Count < 2 {
		t.Errorf("leases %+v, problems %v, %v", leases, problems, err)
	}
	if err := b.host().EndLease(t.Context(), s.ID); err != nil || len(store.Keys("meta/leases/")) != 0 {
		t.Errorf("ended: %v, left %q", err, store.Keys("meta/leases/"))
	}
}

// TestLeasesThatAreNone are problems: a prune must not take them for
// nothing, nor for leases.
func TestLeasesThatAreNone(t *testing.T) {
	data := noise(9, 3*slice)
	store := shiptest.NewMemory()
	b := newBench(t, store)
	s, err := b.host().Upload(t.Context(), full("g1"), source(data), b.records, nil)
	if err != nil {
		t.Fatal(err)
	}
	key := store.Keys("meta/leases/")[0]
	moved := strings.Replace(key, ".000001", ".000007", 1)
	store.Tamper(moved, store.Object(key))
	leases, problems, err := b.host().Leases(t.Context())
	if err != nil || len(leases) != 0 || len(problems) != 1 || problems[0].Object != moved {
		t.Errorf("leases %+v, problems %+v, %v (stream %s)", leases, problems, err, s.ID)
	}
}

// TestWithoutTheRightToDelete: leases stay, and are renewed once a day only.
func TestWithoutTheRightToDelete(t *testing.T) {
	data := noise(9, 5*slice)
	synctest.Test(t, func(t *testing.T) {
		store := shiptest.NewMemory()
		b := newBench(t, store)
		b.store = shiptest.NewFaults(store, shiptest.Fault{Op: "delete", Nth: 1, Always: true, Err: ship.ErrDenied})
		open := func(context.Context) (io.ReadCloser, error) {
			time.Sleep(25 * time.Hour)
			return io.NopCloser(bytes.NewReader(data)), nil
		}
		w := b.host()
		s, err := w.Upload(t.Context(), full("g1"), open, b.records, nil)
		if err != nil {
			t.Fatal(err)
		}
		if keys := store.Keys("meta/leases/"); len(keys) != 3 {
			t.Errorf("leases %q, want the first, the one that could not replace it, and that of the next day", keys)
		}
		if err := w.EndLease(t.Context(), s.ID); err != nil {
			t.Error(err)
		}
	})
}
