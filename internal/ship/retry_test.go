package ship_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"snapd/internal/ship"
	"snapd/internal/ship/shiptest"
)

var errAway = fmt.Errorf("bucket: %w", ship.ErrUnavailable)

func TestRetryGoesOnUntilItAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var waits []time.Duration
		faults := shiptest.NewFaults(shiptest.NewMemory(), shiptest.Fault{Op: "put", Nth: 1, Err: errAway}, shiptest.Fault{Op: "put", Nth: 2, Err: errAway}, shiptest.Fault{Op: "put", Nth: 3, Err: errAway})
		s := ship.Retry(faults, ship.RetryPolicy{Notify: func(err error, wait time.Duration) {
			if !errors.Is(err, ship.ErrUnavailable) {
				t.Errorf("told of %v", err)
			}
			waits = append(waits, wait)
		}})
		began := time.Now()
		if err := s.Put(t.Context(), "k", nil, false); err != nil {
			t.Fatal(err)
		}
		if len(waits) != 3 || waits[0] < 250*time.Millisecond || waits[2] < time.Second || waits[2] > 2*time.Second+1 {
			t.Errorf("waits %v, want three that grow from half a second", waits)
		}
		if got := time.Since(began); got != waits[0]+waits[1]+waits[2] {
			t.Errorf("it took %v, told were %v", got, waits)
		}
	})
}

func TestRetryGivesUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := ship.Retry(shiptest.NewFaults(shiptest.NewMemory(), shiptest.Fault{Op: "list", Nth: 1, Always: true, Err: errAway}), ship.RetryPolicy{})
		began := time.Now()
		err := s.List(t.Context(), "", nil)
		if took := time.Since(began); !errors.Is(err, ship.ErrUnavailable) || took > 10*time.Minute || took < 9*time.Minute {
			t.Errorf("got %v after %v, want the error after about 10 minutes", err, took)
		}
	})
}

func TestRetryReturnsWhatIsPermanent(t *testing.T) {
	for _, permanent := range []error{ship.ErrDenied, ship.ErrNoBucket, ship.ErrNotFound, ship.ErrExists, errScripted} {
		synctest.Test(t, func(t *testing.T) {
			began := time.Now()
			s := ship.Retry(shiptest.NewFaults(shiptest.NewMemory(), shiptest.Fault{Op: "get", Nth: 1, Always: true, Err: permanent}), ship.RetryPolicy{})
			if _, err := s.Get(t.Context(), "k"); !errors.Is(err, permanent) || time.Since(began) != 0 {
				t.Errorf("got %v after %v, want %v at once", err, time.Since(began), permanent)
			}
		})
	}
}

func TestRetryEndsWithTheContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		calls := 0
		s := ship.Retry(shiptest.NewFaults(shiptest.NewMemory(), shiptest.Fault{Op: "delete", Nth: 1, Always: true, Err: errAway, Do: func() { calls++ }}), ship.RetryPolicy{})
		err := s.Delete(ctx, "k")
		if !errors.Is(err, context.DeadlineExceeded) || !errors.Is(err, ship.ErrUnavailable) {
			t.Errorf("got %v, want why it ended and why it waited", err)
		}
		before := calls
		time.Sleep(time.Hour)
		if calls != before {
			t.Error("something new was begun after the end")
		}
	})
}

// TestRetryListsOnce: a listing that breaks and is repeated tells nothing twice.
func TestRetryListsOnce(t *testing.T) {
	m := shiptest.NewMemory()
	for i := range 10 {
		if err := m.Put(t.Context(), fmt.Sprint("k", i), nil, true); err != nil {
			t.Fatal(err)
		}
	}
	s := ship.Retry(&breaking{Store: m, left: 3}, ship.RetryPolicy{First: time.Nanosecond})
	n := 0
	if err := s.List(t.Context(), "", func(ship.Object) error { n++; return nil }); err != nil || n != 10 {
		t.Errorf("told of %d objects, %v, want 10", n, err)
	}
	// What each fails with is its own matter, whatever it wraps.
	calls := 0
	err := s.List(t.Context(), "", func(ship.Object) error { calls++; return errAway })
	if calls != 1 || err == nil {
		t.Errorf("each failed, was called %d times, got %v", calls, err)
	}
}

// TestRetryListsAnewAndWhole: after a fault a listing begins again, in whatever
// order and however often the server says a key; what was said before the fault
// does not count. The older code left out what did not sort after the last key.
func TestRetryListsAnewAndWhole(t *testing.T) {
	m := shiptest.NewMemory()
	var want []string
	for i := range 10 {
		key := fmt.Sprint("k", i)
		want = append(want, key)
		if err := m.Put(t.Context(), key, nil, true); err != nil {
			t.Fatal(err)
		}
	}
	ghost := func(all []ship.Object) []ship.Object { return append(all[5:], ship.Object{Key: "k999"}) }
	reversedTwice := func(all []ship.Object) []ship.Object {
		slices.Reverse(all)
		return append(all, all...)
	}
	s := ship.Retry(shiptest.NewFaults(m,
		shiptest.Fault{Op: "list", Nth: 1, Listed: ghost, Err: errAway},
		shiptest.Fault{Op: "list", Nth: 2, Listed: reversedTwice},
	), ship.RetryPolicy{First: time.Nanosecond})
	var got []string
	if err := s.List(t.Context(), "", func(o ship.Object) error { got = append(got, o.Key); return nil }); err != nil || !slices.Equal(got, want) {
		t.Errorf("listed %q, %v, want %q", got, err, want)
	}
}

// breaking is a store whose listings break in the middle a few times.
type breaking struct {
	ship.Store
	left int
}

func (b *breaking) List(ctx context.Context, prefix string, each func(ship.Object) error) error {
	n := 0
	err := b.Store.List(ctx, prefix, func(o ship.Object) error {
		if n++; n > 4 && b.left > 0 {
			b.left--
			return errAway
		}
		return each(o)
	})
	return err
}

// ranges is a store that can list from the middle. turn changes what a listing
// gives, deaf makes it begin at the beginning all the same.
type ranges struct {
	*shiptest.Memory
	turn    func([]ship.Object)
	deaf    bool
	broken  error
	listing atomic.Int32
}

func (r *ranges) List(ctx context.Context, prefix string, each func(ship.Object) error) error {
	return r.ListAfter(ctx, prefix, "", each)
}

func (r *ranges) ListAfter(ctx context.Context, prefix, after string, each func(ship.Object) error) error {
	r.listing.Add(1)
	if after != "" && r.broken != nil {
		return r.broken
	}
	var all []ship.Object
	err := r.Memory.List(ctx, prefix, func(o ship.Object) error {
		if r.deaf || o.Key > after {
			all = append(all, o)
		}
		return nil
	})
	if r.turn != nil {
		r.turn(all)
	}
	for _, o := range all {
		if err == nil {
			err = each(o)
		}
	}
	return err
}

// TestRetryListsInHalves: whatever a server makes of the order and of where a
// listing is to begin, nothing of meta/ is left out, and nothing comes twice.
func TestRetryListsInHalves(t *testing.T) {
	memory := shiptest.NewMemory()
	var want []string
	for _, key := range []string{"meta/a", "meta/ledger/1", "meta/points/1", "meta/points/2", "meta/streams", "meta/streams!", "meta/streams/a", "meta/streams/b", "meta/streams0", "meta/z"} {
		if ship.CheckKey(key) == nil {
			want = append(want, key)
			if err := memory.Put(t.Context(), key, []byte(key), false); err != nil {
				t.Fatal(err)
			}
		}
	}
	for name, r := range map[string]*ranges{
		"in order":            {},
		"deaf":                {deaf: true},
		"reversed":            {turn: slices.Reverse[[]ship.Object]},
		"swapped at the ends": {turn: func(o []ship.Object) { o[0], o[len(o)-1] = o[len(o)-1], o[0] }},
		"a manifest comes first": {turn: func(o []ship.Object) {
			if i := slices.IndexFunc(o, func(o ship.Object) bool { return o.Key == "meta/streams/a" }); i > 0 {
				o[0], o[i] = o[i], o[0]
			}
		}},
	} {
		t.Run(name, func(t *testing.T) {
			r.Memory = memory
			var got []string
			err := ship.Retry(r, ship.RetryPolicy{}).List(t.Context(), "meta/", func(o ship.Object) error {
				got = append(got, o.Key)
				return nil
			})
			if err != nil || !slices.Equal(got, want) {
				t.Errorf("%v, %v; want %v", got, err, want)
			}
		})
	}
	broken := errors.New("broken")
	err := ship.Retry(&ranges{Memory: memory, broken: broken}, ship.RetryPolicy{}).List(t.Context(), "meta/", func(ship.Object) error {
		t.Error("a half counts")
		return nil
	})
	if !errors.Is(err, broken) {
		t.Errorf("got %v", err)
	}
}

// TestRetryListsAnewWithoutKeepingIt: what was told before a fault does not count, and
// is said so; what each fails with is its own matter.
func TestRetryListsAnewWithoutKeepingIt(t *testing.T) {
	m := shiptest.NewMemory()
	for i := range 10 {
		if err := m.Put(t.Context(), fmt.Sprint("k", i), nil, true); err != nil {
			t.Fatal(err)
		}
	}
	s, ok := ship.Retry(&breaking{Store: m, left: 3}, ship.RetryPolicy{First: time.Nanosecond}).(ship.AnewLister)
	if !ok {
		t.Fatal("it keeps all listings")
	}
	n, begun := 0, 0
	begin := func() { n, begun = 0, begun+1 }
	if err := s.ListAnew(t.Context(), "", begin, func(ship.Object) error { n++; return nil }); err != nil || n != 10 || begun != 4 {
		t.Errorf("told of %d objects, begun %d times, %v, want 10 and 4", n, begun, err)
	}
	if err := s.ListAnew(t.Context(), "", begin, func(ship.Object) error { n++; return errAway }); n != 1 || begun != 5 || !errors.Is(err, errAway) {
		t.Errorf("each failed: called %d times, begun %d times, %v", n, begun, err)
	}
}
