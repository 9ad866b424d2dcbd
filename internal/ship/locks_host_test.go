//go:build host

package ship_test

import (
	"bytes"
	"errors"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"snapd/internal/ship"
	"snapd/internal/ship/shiptest"
)

// TestABaseIsLockedAsLongAsWhatBuildsOnIt on a real server: the lock of a base
// is extended by a ship that is locked for much longer, and not by the next.
func TestABaseIsLockedAsLongAsWhatBuildsOnIt(t *testing.T) {
	m := shiptest.StartMinIO(t)
	m.Bucket(t, "ships", true)
	m.Lock(t, "ships", "COMPLIANCE", 30)
	front := shiptest.NewFront(t, m)
	var asked, extended, unproved atomic.Int32
	front.Answer(func(_ http.ResponseWriter, r *http.Request) bool {
		_, retention := r.URL.Query()["retention"]
		switch {
		case retention && r.Method == http.MethodPut:
			extended.Add(1)
		case retention:
			asked.Add(1)
		case r.Method == http.MethodPut && r.Header.Get("X-Amz-Checksum-Sha256") == "" && r.Header.Get("Content-Md5") == "":
			unproved.Add(1) // AWS refuses it in such a bucket
		}
		return false
	})
	b := newBenchWith(t, ship.Retry(fronted(t, front, m, "ships"), ship.RetryPolicy{}), ship.EncryptionAge, slice)
	store := fronted(t, front, m, "ships")
	c := openCache(t, t.TempDir()+"/cache")
	base, done := shipped(t, b, c, full("g0"), noise(1, 5*slice))
	if done.Objects != 0 {
		t.Errorf("nothing is built on: %+v", done)
	}
	before := lockOf(t, store, base.Key)
	m.Lock(t, "ships", "COMPLIANCE", 60)
	s, done := shipped(t, b, c, on(base, "g1"), noise(2, slice))
	if done.Streams != 1 || done.Objects != 5+2 || done.Refused != nil {
		t.Errorf("extended %+v", done)
	}
	want := lockOf(t, store, s.Key)
	keys := []string{base.Key, "repository"}
	if err := store.List(t.Context(), "data/"+string(base.ID)+"/", func(o ship.Object) error { keys = append(keys, o.Key); return nil }); err != nil {
		t.Fatal(err)
	}
	for _, key := range keys {
		if got := lockOf(t, store, key); !got.Equal(want.Truncate(time.Second)) || got.Sub(before) < 29*day {
			t.Errorf("%s is locked until %s, not %s", key, got, want)
		}
	}
	asked.Store(0)
	extended.Store(0)
	if _, done := shipped(t, b, c, on(base, "g2"), noise(3, slice)); done.Objects != 0 || asked.Load() != 1 || extended.Load() != 0 {
		t.Errorf("the next one asked %d times and extended %d: %+v", asked.Load(), extended.Load(), done)
	}
	if l, err := b.host().OldestBase(t.Context(), look(t, b.host(), c, ship.Known)); err != nil || !l.Until.Equal(want.Truncate(time.Second)) {
		t.Errorf("the oldest base: %+v, %v", l, err)
	}
	if n := unproved.Load(); n != 0 {
		t.Errorf("%d puts without a checksum", n)
	}
}

// TestABucketWhereAllWasDeleted: with the keys of a host everything was hidden;
// a reader finds the versions.
func TestABucketWhereAllWasDeleted(t *testing.T) {
	m := shiptest.StartMinIO(t)
	m.Bucket(t, "ships", true)
	m.Lock(t, "ships", "GOVERNANCE", 30)
	b := newBenchWith(t, onMinIO(t, m, "ships", "hosts/one"), ship.EncryptionAge, slice)
	w := b.host()
	data := noise(1, 9*slice)
	s := b.upload(w, full("g1"), data)
	b.point(w, s)
	m.HideAll(t, "ships")
	_, err := ship.Open(t.Context(), b.store, ship.OpenOptions{Signer: b.signer})
	if !errors.Is(err, ship.ErrDeleted) || !strings.Contains(err.Error(), "13 versions") { // 9 segments, manifest, point, lease, repository
		t.Errorf("a writer: %v", err)
	}
	r := b.hidden()
	if v := look(t, r, nil, ship.Whole); len(v.Points) != 1 || len(v.Problems) != 1 || v.Problems[0].Kind != ship.KindHidden {
		t.Errorf("%d points, %+v", len(v.Points), v.Problems)
	}
	if got, err := b.read(r, s.ID); err != nil || !bytes.Equal(got, data) {
		t.Errorf("read %d bytes, %v", len(got), err)
	}
}
