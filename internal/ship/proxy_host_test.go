//go:build host

package ship_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"snapd/internal/advice"
	"snapd/internal/ship"
	"snapd/internal/ship/s3"
	"snapd/internal/ship/shiptest"
)

// fronted is a store behind what stands before a server.
func fronted(t *testing.T, front *shiptest.Front, m *shiptest.MinIO, bucket string) *s3.Store {
	t.Helper()
	s, err := s3.New(s3.Options{Endpoint: front.URL, Bucket: bucket, Prefix: "host1", AccessKey: m.AccessKey, SecretKey: m.SecretKey})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// TestPutsAnsweredWithAPage: each once counted as stored; a run succeeded
// without one of its five segments, and increments were built on it.
func TestPutsAnsweredWithAPage(t *testing.T) {
	m := shiptest.StartMinIO(t)
	m.Bucket(t, "ships", false)
	front := shiptest.NewFront(t, m)
	b := newBenchWith(t, ship.Retry(fronted(t, front, m, "ships"), ship.RetryPolicy{First: time.Millisecond}), ship.EncryptionAge, 64<<10)
	data := noise(5, 5*64<<10)
	w := b.host()
	page := func(kind, body string) {
		front.Answer(func(w http.ResponseWriter, r *http.Request) bool {
			if r.Method != http.MethodPut || !strings.Contains(r.URL.Path, "/data/") {
				return false
			}
			_, _ = io.Copy(io.Discard, r.Body)
			w.Header().Set("Content-Type", kind)
			_, _ = io.WriteString(w, body)
			return true
		})
	}
	for kind, body := range map[string]string{"text/html": "<html>log in</html>", "application/json": `{"ok":true}`, "text/plain": ""} {
		page(kind, body)
		_, err := w.Upload(t.Context(), full("g1"), source(data), b.records, nil)
		if !errors.Is(err, ship.ErrNotAStore) || advice.Of(err) == "" {
			t.Errorf("%s: got %v (advice %q)", kind, err, advice.Of(err))
		}
	}
	front.Answer(nil)
	s := b.upload(w, full("g1"), data)
	if s.Uploaded != 5 {
		t.Errorf("got %+v", s)
	}
	b.point(w, s)
	if got, err := b.read(b.reader(), s.ID); err != nil || !bytes.Equal(got, data) {
		t.Errorf("read back: %d bytes, %v", len(got), err)
	}
}

// TestWhatProvesAPut: a real server says two things, either of which is proof.
func TestWhatProvesAPut(t *testing.T) {
	m := shiptest.StartMinIO(t)
	m.Bucket(t, "ships", false)
	front := shiptest.NewFront(t, m)
	s := fronted(t, front, m, "ships")
	for _, c := range []struct {
		without []string
		want    error
	}{
		{nil, nil},
		{[]string{"ETag"}, nil},
		{[]string{"X-Amz-Checksum-Sha256"}, nil},
		{[]string{"ETag", "X-Amz-Checksum-Sha256"}, ship.ErrNotAStore},
	} {
		front.Change(func(r *http.Request, header http.Header, body []byte) []byte {
			for _, h := range c.without {
				if header.Get(h) == "" && r.Method == http.MethodPut {
					t.Errorf("the server says no %s", h)
				}
				header.Del(h)
			}
			return body
		})
		if err := s.Put(t.Context(), "k", []byte("body"), false); !errors.Is(err, c.want) {
			t.Errorf("without %q: got %v, want %v", c.without, err, c.want)
		}
	}
}

var contents = regexp.MustCompile(`(?s)<Contents>.*?</Contents>`)

// TestListingsThatLie: reversed ones are put in order; those that cannot be
// true are errors; lost keys are asked for by name.
func TestServersWhoseListingsLie(t *testing.T) {
	m := shiptest.StartMinIO(t)
	m.Bucket(t, "ships", false)
	front := shiptest.NewFront(t, m)
	const size, segments = 1 << 10, 1100
	b := newBenchWith(t, ship.Retry(fronted(t, front, m, "ships"), ship.RetryPolicy{First: time.Millisecond}), ship.EncryptionAge, size)
	data := noise(5, segments*size)
	w := b.host()
	base := b.upload(w, full("g1"), data)
	list := func() (keys []string, err error) {
		err = b.store.List(t.Context(), "data/", func(o ship.Object) error { keys = append(keys, o.Key); return nil })
		return keys, err
	}
	want, err := list()
	if err != nil || len(want) != segments {
		t.Fatalf("%d keys, %v", len(want), err)
	}

	front.ChangeListings(func(page string) string {
		all := contents.FindAllString(page, -1)
		return contents.ReplaceAllStringFunc(page, func(string) string {
			last := all[len(all)-1]
			all = all[:len(all)-1]
			return last
		})
	})
	if got, err := list(); err != nil || !slices.Equal(got, want) {
		t.Errorf("reversed: %d keys, %v", len(got), err)
	}

	truncated := regexp.MustCompile(`<NextContinuationToken>.*</NextContinuationToken>`)
	front.ChangeListings(func(page string) string { return truncated.ReplaceAllString(page, "") })
	if got, err := list(); !errors.Is(err, ship.ErrNotAStore) {
		t.Errorf("truncated without a continuation: %d keys, %v", len(got), err)
	}

	cuts := 0
	front.ChangeListings(func(page string) string {
		if cuts++; cuts == 2 {
			return page[:len(page)/2]
		}
		return page
	})
	if got, err := list(); err != nil || !slices.Equal(got, want) || cuts < 4 {
		t.Errorf("broken off in the second page: %d keys, %v, %d pages", len(got), err, cuts)
	}

	for name, page := range map[string]string{
		"login page":       "<html><body>log in</body></html>",
		"well-formed page": `<?xml version="1.0"?><html><body>log in</body></html>`,
		"another listing":  `<?xml version="1.0"?><ListBucketResult><Name>ships</Name><Prefix></Prefix></ListBucketResult>`,
	} {
		front.ChangeListings(func(string) string { return page })
		if got, err := list(); !errors.Is(err, ship.ErrNotAStore) {
			t.Errorf("%s: %d keys, %v", name, len(got), err)
		}
	}

	front.ChangeListings(func(page string) string {
		return truncated.ReplaceAllString(strings.Replace(page, "<IsTruncated>true", "<IsTruncated>false", 1), "")
	})
	if got, err := list(); err != nil || len(got) != 1000 {
		t.Fatalf("pages after the first are lost: %d keys, %v", len(got), err)
	}
	// The base is whole although a part of it is not listed.
	b.upload(w, on(base, "g2"), data[:5*size])
}

// TestFlippedWhileInterruptedOnMinIO: the server's ETags tell.
func TestFlippedWhileInterruptedOnMinIO(t *testing.T) {
	m := shiptest.StartMinIO(t)
	m.Bucket(t, "ships", false)
	front := shiptest.NewFront(t, m)
	store := fronted(t, front, m, "ships")
	b := newBenchWith(t, store, ship.EncryptionAge, slice)
	data := noise(5, 12*slice)
	interrupt(t, b, full("g1"), data)
	var keys []string
	if err := store.List(t.Context(), "data/", func(o ship.Object) error { keys = append(keys, o.Key); return nil }); err != nil {
		t.Fatal(err)
	}
	shiptest.FlipBit(t, store, keys[4])
	var gets atomic.Int32
	front.Answer(func(_ http.ResponseWriter, r *http.Request) bool {
		if r.Method == http.MethodGet && strings.Contains(r.URL.Path, "/data/") {
			gets.Add(1)
		}
		return false
	})
	s := b.upload(b.host(), full("g1"), data)
	if s.Uploaded != 1 || s.Reused != 11 || gets.Load() != 1 {
		t.Errorf("got %+v with %d segments fetched", s, gets.Load())
	}
	if got, err := b.read(b.reader(), s.ID); err != nil || !bytes.Equal(got, data) {
		t.Errorf("read back: %d bytes, %v", len(got), err)
	}
}

// TestBehindDeleteMarkers: a repository that was deleted in a bucket with
// versions is hidden, and snapd init would be the wrong thing to do.
func TestBehindDeleteMarkers(t *testing.T) {
	m := shiptest.StartMinIO(t)
	m.Bucket(t, "locked", true)
	store := onMinIO(t, m, "locked", "host1")
	b := newBenchWith(t, store, ship.EncryptionAge, slice)
	m.Hide(t, "locked", "host1/repository")
	_, err := ship.Open(context.WithoutCancel(t.Context()), store, ship.OpenOptions{Signer: b.signer})
	if errors.Is(err, ship.ErrNotRepository) || !errors.Is(err, ship.ErrDeleted) || strings.Contains(advice.Of(err), "init") || !strings.Contains(advice.Of(err), "delete markers") {
		t.Errorf("got %v (advice %q)", err, advice.Of(err))
	}
	_, err = ship.Create(t.Context(), store, ship.CreateOptions{Signer: b.signer, Encryption: ship.EncryptionAge, Now: time.Now()})
	if !errors.Is(err, ship.ErrDeleted) || !strings.Contains(advice.Of(err), "delete markers") {
		t.Errorf("made another one on top: %v (advice %q)", err, advice.Of(err))
	}
	if _, err := store.Stat(t.Context(), "repository"); !errors.Is(err, ship.ErrDeleted) {
		t.Errorf("stat: %v", err)
	}
}
