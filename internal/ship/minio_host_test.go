//go:build host

package ship_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"strings"
	"sync"
	"testing"
	"time"

	"snapd/internal/advice"
	"snapd/internal/ship"
	"snapd/internal/ship/s3"
	"snapd/internal/ship/shiptest"
)

func onMinIO(t *testing.T, m *shiptest.MinIO, bucket, prefix string) *s3.Store {
	t.Helper()
	s, err := s3.New(s3.Options{Endpoint: m.Endpoint(), Bucket: bucket, Prefix: prefix, AccessKey: m.AccessKey, SecretKey: m.SecretKey})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// TestMinIOStopsInTheMiddle: the server is killed while a stream is shipped,
// stays away for a while and comes back. The ship goes on.
func TestMinIOStopsInTheMiddle(t *testing.T) {
	m := shiptest.StartMinIO(t)
	m.Bucket(t, "ships", false)
	var mu sync.Mutex
	var told []error
	b := newBenchWith(t, ship.Retry(onMinIO(t, m, "ships", "host1"), ship.RetryPolicy{
		First: 50 * time.Millisecond, Max: 500 * time.Millisecond,
		Notify: func(err error, _ time.Duration) {
			mu.Lock()
			defer mu.Unlock()
			told = append(told, err)
		},
	}), ship.EncryptionAge, 1<<20)
	data := noise(5, 40<<20)
	var once sync.Once
	back := make(chan struct{})
	report := func(p ship.Progress) {
		if p.Segments >= 10 {
			once.Do(func() {
				m.Stop(t)
				go func() {
					defer close(back)
					time.Sleep(time.Second) // an outage, not a wait
					m.Start(t)
				}()
			})
		}
	}
	s, err := b.host().Upload(t.Context(), full("g1"), source(data), b.records, report)
	<-back
	if err != nil {
		t.Fatal(err)
	}
	mu.Lock()
	if len(told) == 0 || !errors.Is(told[0], ship.ErrUnavailable) {
		t.Errorf("people were told %v", told)
	}
	mu.Unlock()
	b.point(b.host(), s)
	if got, err := b.read(b.reader(), s.ID); err != nil || !bytes.Equal(got, data) {
		t.Errorf("read back: %d bytes, %v", len(got), err)
	}
	verifyClean(t, b)
}

// TestMinIOStaysAway: the ship fails with a clear error, and goes on where it
// stopped when the server is back.
func TestMinIOStaysAway(t *testing.T) {
	m := shiptest.StartMinIO(t)
	m.Bucket(t, "ships", false)
	b := newBenchWith(t, ship.Retry(onMinIO(t, m, "ships", "host1"), ship.RetryPolicy{First: 20 * time.Millisecond, Total: time.Second}), ship.EncryptionAge, 1<<20)
	data := noise(5, 20<<20)
	var once sync.Once
	r := b.host()
	_, err := r.Upload(t.Context(), full("g1"), source(data), b.records, func(p ship.Progress) {
		if p.Segments == 8 {
			once.Do(func() { m.Stop(t) })
		}
	})
	if !errors.Is(err, ship.ErrUnavailable) || !strings.Contains(advice.Of(err), "running") {
		t.Fatalf("got %v (hint %q)", err, advice.Of(err))
	}
	m.Start(t)
	s := b.upload(r, full("g1"), data)
	if s.Reused < 8 || s.Reused+s.Uploaded != 20 {
		t.Errorf("got %+v", s)
	}
}

func TestDamageOnMinIO(t *testing.T) {
	m := shiptest.StartMinIO(t)
	m.Bucket(t, "ships", false)
	store := onMinIO(t, m, "ships", "deep/prefix")
	b := newBenchWith(t, store, ship.EncryptionAge, 64<<10)
	data := noise(5, 10*64<<10)
	s := b.upload(b.host(), full("g1"), data)
	id := b.point(b.host(), s)
	var keys []string
	if err := store.List(t.Context(), "data/", func(o ship.Object) error { keys = append(keys, o.Key); return nil }); err != nil {
		t.Fatal(err)
	}
	shiptest.FlipBit(t, store, keys[4])
	got, err := b.read(b.reader(), s.ID)
	if !errors.Is(err, ship.ErrDamaged) || !strings.Contains(err.Error(), keys[4]) || !bytes.Equal(got, data[:4*64<<10]) {
		t.Errorf("got %d bytes and %v", len(got), err)
	}
	_, problems, err := b.host().Verify(t.Context(), ship.VerifyOptions{}, nil)
	if err != nil || len(problems) != 1 || problems[0].Object != keys[4] || problems[0].Points[0] != id {
		t.Errorf("verify: %+v, %v", problems, err)
	}
	if _, err := b.host().Prune(t.Context(), nil, nil, later()); err != nil {
		t.Errorf("prune: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := b.host().Upload(ctx, full("g2"), func(context.Context) (io.ReadCloser, error) { return nil, errScripted }, nil, nil); err == nil {
		t.Error("a cancelled upload: no error")
	}
}
