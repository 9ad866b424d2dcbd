package shiptest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"snapd/internal/ship"
)

// Run holds a store to the contract of ship.Store. open makes an empty one for
// each case.
func Run(t *testing.T, open func(t *testing.T) ship.Store) {
	t.Helper()
	cases := []struct {
		name string
		test func(*testing.T, ship.Store)
	}{
		{"an empty store lists nothing", testEmpty},
		{"what was put is got", testRoundTrip},
		{"if absent keeps what is there", testIfAbsent},
		{"of many that put if absent one wins", testIfAbsentRace},
		{"without if absent the last one wins", testReplace},
		{"a listing is ordered by key and bounded by its prefix", testList},
		{"a long listing is complete", testLongList},
		{"an error ends a listing", testListStops},
		{"delete may be repeated", testDelete},
		{"keys cannot lead elsewhere", testKeys},
		{"after cancellation nothing is begun", testCancelled},
		{"the body is not looked at after put", testBodyReuse},
		{"many at once", testMany},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) { c.test(t, open(t)) })
	}
}

func get(t *testing.T, s ship.Store, key string) []byte {
	t.Helper()
	r, err := s.Get(t.Context(), key)
	if err != nil {
		t.Fatalf("get %s: %v", key, err)
	}
	body, err := io.ReadAll(r)
	if err = errors.Join(err, r.Close()); err != nil {
		t.Fatalf("read %s: %v", key, err)
	}
	return body
}

func put(t *testing.T, s ship.Store, key, body string) {
	t.Helper()
	if err := s.Put(t.Context(), key, []byte(body), false); err != nil {
		t.Fatalf("put %s: %v", key, err)
	}
}

func list(t *testing.T, s ship.Store, prefix string) []string {
	t.Helper()
	var keys []string
	err := s.List(t.Context(), prefix, func(o ship.Object) error {
		keys = append(keys, o.Key)
		return nil
	})
	if err != nil {
		t.Fatalf("list %q: %v", prefix, err)
	}
	return keys
}

func testEmpty(t *testing.T, s ship.Store) {
	for _, prefix := range []string{"", "meta/", "meta/streams/x."} {
		if keys := list(t, s, prefix); len(keys) != 0 {
			t.Errorf("list %q: got %q, want nothing", prefix, keys)
		}
	}
	if r, err := s.Get(t.Context(), "no/such/object"); !errors.Is(err, ship.ErrNotFound) {
		t.Errorf("get: got %v, %v, want ErrNotFound", r, err)
	}
}

func testRoundTrip(t *testing.T, s ship.Store) {
	for _, size := range []int{0, 1, 4096, 5<<20 + 3} {
		body := bytes.Repeat([]byte{0, 0xff, 'x', '\n', 7}, size/5+1)[:size]
		key := fmt.Sprintf("a/b.c/%d-_Z", size)
		began := time.Now().Add(-time.Minute)
		if err := s.Put(t.Context(), key, body, true); err != nil {
			t.Fatalf("put %d bytes: %v", size, err)
		}
		if got := get(t, s, key); !bytes.Equal(got, body) {
			t.Errorf("%d bytes put, %d other ones got", size, len(got))
		}
		err := s.List(t.Context(), key, func(o ship.Object) error {
			if o.Size != int64(size) || o.Time.Before(began) || o.Time.After(time.Now().Add(time.Minute)) {
				t.Errorf("listed as %+v, want size %d and a time of now", o, size)
			}
			return nil
		})
		if err != nil {
			t.Error(err)
		}
	}
}

func testIfAbsent(t *testing.T, s ship.Store) {
	if err := s.Put(t.Context(), "k", []byte("first"), true); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := s.Put(t.Context(), "k", []byte("second"), true); !errors.Is(err, ship.ErrExists) {
			t.Errorf("got %v, want ErrExists", err)
		}
	}
	if got := get(t, s, "k"); string(got) != "first" {
		t.Errorf("got %q, want what was put first", got)
	}
	if keys := list(t, s, ""); len(keys) != 1 {
		t.Errorf("listed %q, want one object", keys)
	}
}

func testIfAbsentRace(t *testing.T, s ship.Store) {
	var won atomic.Int32
	var winner atomic.Value
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			body := strings.Repeat(fmt.Sprint(i), 1<<16)
			err := s.Put(t.Context(), "contested", []byte(body), true)
			// A server may also answer that the two were in each other's way.
			if err != nil && !errors.Is(err, ship.ErrExists) && !errors.Is(err, ship.ErrUnavailable) {
				t.Errorf("got %v, want ErrExists", err)
			}
			if err == nil {
				won.Add(1)
				winner.Store(body)
			}
		})
	}
	wg.Wait()
	if won.Load() != 1 {
		t.Fatalf("%d of 8 put it first", won.Load())
	}
	if got := get(t, s, "contested"); string(got) != winner.Load() {
		t.Error("what is there is not the winner's")
	}
}

func testReplace(t *testing.T, s ship.Store) {
	put(t, s, "k", "first")
	put(t, s, "k", "second")
	if got := get(t, s, "k"); string(got) != "second" {
		t.Errorf("got %q", got)
	}
}

func testList(t *testing.T, s ship.Store) {
	keys := []string{"a-b/1", "a/b", "a/b.c", "a/c/d", "ab", "b/1", "b/10", "b/2", "B/1"}
	for _, k := range keys {
		put(t, s, k, k)
	}
	for _, prefix := range []string{"", "a", "a/", "a/b", "a/c", "a/c/", "b/1", "b/1/", "zz", "a/c/d", "a/c/d/e"} {
		var want []string
		for _, k := range keys {
			if strings.HasPrefix(k, prefix) {
				want = append(want, k)
			}
		}
		slices.Sort(want)
		if got := list(t, s, prefix); !slices.Equal(got, want) {
			t.Errorf("list %q: got %q, want %q", prefix, got, want)
		}
	}
}

// testLongList goes beyond a page of S3, which has 1000 objects.
func testLongList(t *testing.T, s ship.Store) {
	var wg sync.WaitGroup
	const n = 1100
	for w := range 8 {
		wg.Go(func() {
			for i := w; i < n; i += 8 {
				if err := s.Put(t.Context(), fmt.Sprintf("many/%05d", i), nil, false); err != nil {
					t.Errorf("put: %v", err)
					return
				}
			}
		})
	}
	wg.Wait()
	if got := list(t, s, "many/"); len(got) != n || !slices.IsSorted(got) {
		t.Errorf("listed %d of %d, sorted %v", len(got), n, slices.IsSorted(got))
	}
}

func testListStops(t *testing.T, s ship.Store) {
	for i := range 5 {
		put(t, s, fmt.Sprint("k", i), "")
	}
	stop := errors.New("stop")
	n := 0
	err := s.List(t.Context(), "", func(ship.Object) error {
		if n++; n == 2 {
			return stop
		}
		return nil
	})
	if !errors.Is(err, stop) || n != 2 {
		t.Errorf("got %v after %d, want the error after 2", err, n)
	}
}

func testDelete(t *testing.T, s ship.Store) {
	put(t, s, "a/b/c", "x")
	put(t, s, "a/d", "y")
	for range 2 {
		if err := s.Delete(t.Context(), "a/b/c"); err != nil {
			t.Errorf("delete: %v", err)
		}
	}
	if err := s.Delete(t.Context(), "never/was"); err != nil {
		t.Errorf("delete what never was: %v", err)
	}
	if got := list(t, s, ""); !slices.Equal(got, []string{"a/d"}) {
		t.Errorf("left: %q", got)
	}
	put(t, s, "a/b/c", "again")
}

func testKeys(t *testing.T, s ship.Store) {
	for _, key := range []string{
		"", "/", "/a", "a/", "a//b", ".", "..", "../a", "a/../b", "a/.hidden", "a b", "a\x00b", "a\nb", "ä", "a\\b", "a?b",
		strings.Repeat("k", 300), strings.Repeat("k/", 300) + "k",
	} {
		if err := s.Put(t.Context(), key, []byte("x"), false); err == nil {
			t.Errorf("put %q: no error", key)
		}
		if r, err := s.Get(t.Context(), key); err == nil {
			_ = r.Close()
			t.Errorf("get %q: no error", key)
		}
	}
	if got := list(t, s, ""); len(got) != 0 {
		t.Errorf("left: %q", got)
	}
	long := strings.Repeat("p", 200) + "/" + strings.Repeat("k", 255)
	put(t, s, long, "x")
	if got := list(t, s, ""); !slices.Equal(got, []string{long}) {
		t.Errorf("a key of %d bytes is listed as %q", len(long), got)
	}
}

func testCancelled(t *testing.T, s ship.Store) {
	put(t, s, "there", "x")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Put(ctx, "k", []byte("x"), false); !errors.Is(err, context.Canceled) {
		t.Errorf("put: got %v, want that it was cancelled", err)
	}
	if err := s.List(ctx, "", func(ship.Object) error { return nil }); !errors.Is(err, context.Canceled) {
		t.Errorf("list: got %v, want that it was cancelled: an empty listing would be a lie", err)
	}
	if got := list(t, s, ""); !slices.Equal(got, []string{"there"}) {
		t.Errorf("left: %q", got)
	}
}

func testBodyReuse(t *testing.T, s ship.Store) {
	body := make([]byte, 1<<20)
	for i := range byte(5) {
		for j := range body {
			body[j] = i
		}
		if err := s.Put(t.Context(), fmt.Sprint("k", i), body, false); err != nil {
			t.Fatal(err)
		}
	}
	for i := range byte(5) {
		if got := get(t, s, fmt.Sprint("k", i)); len(got) != len(body) || bytes.Count(got, []byte{i}) != len(body) {
			t.Errorf("object %d is not what was put", i)
		}
	}
}

func testMany(t *testing.T, s ship.Store) {
	var wg sync.WaitGroup
	for w := range 8 {
		wg.Go(func() {
			for i := range 10 {
				key := fmt.Sprintf("w/%d/%d", w, i)
				if err := s.Put(t.Context(), key, []byte(key), true); err != nil {
					t.Errorf("put: %v", err)
				}
				if i%2 == 0 {
					if err := s.Delete(t.Context(), key); err != nil {
						t.Errorf("delete: %v", err)
					}
				}
			}
		})
	}
	wg.Wait()
	if got := list(t, s, "w/"); len(got) != 40 {
		t.Errorf("%d objects left, want 40: %q", len(got), got)
	}
}
