package ship_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"snapd/internal/ship"
	"snapd/internal/ship/shiptest"

	"filippo.io/age"
)

var errScripted = errors.New("scripted")

// TestSourceThatFails: whatever a source fails with, nothing is listed, and
// also an error that looks like an end is none.
func TestSourceThatFails(t *testing.T) {
	data := noise(1, 10*slice+5)
	for name, broken := range map[string]error{
		"its own error": errScripted, "unexpected end": io.ErrUnexpectedEOF, "around EOF": fmt.Errorf("btrfs send: %w", io.EOF),
	} {
		t.Run(name, func(t *testing.T) {
			store := shiptest.NewMemory()
			b := newBench(t, store)
			open := func(context.Context) (io.ReadCloser, error) {
				return io.NopCloser(io.MultiReader(bytes.NewReader(data), iotest.ErrReader(broken))), nil
			}
			_, err := b.host().Upload(t.Context(), full("g1"), open, b.records, nil)
			if !errors.Is(err, broken) {
				t.Errorf("got %v, want %v", err, broken)
			}
			if keys := committedKeys(store); len(keys) != 0 {
				t.Errorf("listed: %q", keys)
			}
		})
	}
	t.Run("nothing at all", func(t *testing.T) {
		store := shiptest.NewMemory()
		b := newBench(t, store)
		if s, err := b.host().Upload(t.Context(), full("g1"), source(nil), b.records, nil); err == nil {
			t.Errorf("an empty stream was shipped: %+v", s)
		}
	})
	t.Run("error on close", func(t *testing.T) {
		store := shiptest.NewMemory()
		b := newBench(t, store)
		open := func(context.Context) (io.ReadCloser, error) { return closeError{bytes.NewReader(data)}, nil }
		if _, err := b.host().Upload(t.Context(), full("g1"), open, b.records, nil); !errors.Is(err, errScripted) {
			t.Errorf("got %v, want that of Close: it is the sender's exit", err)
		}
		if keys := committedKeys(store); len(keys) != 0 {
			t.Errorf("listed: %q", keys)
		}
	})
}

// committedKeys are all keys that a reader would look at: leases say of an
// upload only that it is alive.
func committedKeys(store *shiptest.Memory) []string {
	return slices.DeleteFunc(store.Keys("meta/"), func(k string) bool { return strings.HasPrefix(k, "meta/leases/") })
}

type closeError struct{ io.Reader }

func (closeError) Close() error { return errScripted }

// TestResume: after each kind of failure, only what is missing is uploaded.
func TestResume(t *testing.T) {
	const segments = 40
	data := noise(7, segments*slice)
	store := shiptest.NewMemory()
	b := newBench(t, store)
	faults := shiptest.NewFaults(store, shiptest.Fault{Op: "put", Key: "data/", Nth: 20, Err: errScripted})
	b.store = faults
	if _, err := b.host().Upload(t.Context(), full("g1"), source(data), b.records, nil); !errors.Is(err, errScripted) {
		t.Fatalf("got %v", err)
	}
	there := len(store.Keys("data/"))
	if there < 15 || len(committedKeys(store)) != 0 {
		t.Fatalf("%d segments there, listed: %q", there, committedKeys(store))
	}
	b.store = store
	lists := store.Requests("list")
	s, err := b.host().Upload(t.Context(), full("g1"), source(data), b.records, nil)
	if err != nil {
		t.Fatal(err)
	}
	// The one or two whose puts were under way may lie there unrecorded.
	if s.Reused < there-4 || s.Reused+s.Uploaded != segments || s.Resumed == "" {
		t.Errorf("of %d there it used %d again: %+v", there, s.Reused, s)
	}
	// The segments before and after the upload, and the leases.
	if got := store.Requests("list") - lists; got > 3 {
		t.Errorf("%d listings, want at most 3 however long the stream", got)
	}
	if got, err := b.read(b.reader(), s.ID); err != nil || !bytes.Equal(got, data) {
		t.Errorf("read back: %d bytes, %v", len(got), err)
	}
	if len(store.Rewrites()) != 0 {
		t.Errorf("rewritten: %q", store.Rewrites())
	}
}

// interrupt ships part of data and fails.
func interrupt(t *testing.T, b *bench, h ship.Head, data []byte) {
	t.Helper()
	open := func(context.Context) (io.ReadCloser, error) {
		return io.NopCloser(io.MultiReader(bytes.NewReader(data), &waitThenFail{b: b, t: t, lines: len(data) / slice})), nil
	}
	if _, err := b.host().Upload(t.Context(), h, open, b.records, nil); !errors.Is(err, errScripted) {
		t.Fatalf("got %v", err)
	}
}

// waitThenFail fails when so many segments have been recorded.
type waitThenFail struct {
	b     *bench
	t     *testing.T
	lines int
}

func (w *waitThenFail) Read([]byte) (int, error) {
	deadline := time.Now().Add(time.Minute)
	for lines := 0; lines < w.lines; {
		if time.Now().After(deadline) {
			w.t.Errorf("%d lines were recorded, want %d", lines, w.lines)
			break
		}
		time.Sleep(time.Millisecond)
		names, _ := filepath.Glob(filepath.Join(w.b.recDir, "*"))
		lines = 0
		for _, n := range names {
			if text, err := os.ReadFile(n); err == nil {
				lines += bytes.Count(text, []byte(`"plain_sha256"`))
			}
		}
	}
	return 0, errScripted
}

func TestResumeTrustsNothing(t *testing.T) {
	const segments = 12
	data := noise(9, segments*slice)
	recordFile := func(t *testing.T, b *bench) string {
		t.Helper()
		names, err := filepath.Glob(filepath.Join(b.recDir, "*.jsonl"))
		if err != nil || len(names) != 1 {
			t.Fatalf("records: %q, %v", names, err)
		}
		info, err := os.Stat(names[0])
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Fatalf("record: %v, %v", info, err)
		}
		return names[0]
	}
	cases := []struct {
		name     string
		change   func(t *testing.T, b *bench, store *shiptest.Memory) (second []byte)
		uploaded int
	}{
		{"nothing happened", func(*testing.T, *bench, *shiptest.Memory) []byte { return data }, 0},
		{"a slice is different now", func(*testing.T, *bench, *shiptest.Memory) []byte {
			d := bytes.Clone(data)
			d[3*slice+1] ^= 1
			return d
		}, 1},
		{"the stream is longer now", func(*testing.T, *bench, *shiptest.Memory) []byte { return append(bytes.Clone(data), 'x') }, 1},
		{"an object is gone", func(_ *testing.T, _ *bench, store *shiptest.Memory) []byte {
			store.Tamper(store.Keys("data/")[5], nil)
			return data
		}, 1},
		{"an object is shorter", func(_ *testing.T, _ *bench, store *shiptest.Memory) []byte {
			key := store.Keys("data/")[5]
			store.Tamper(key, store.Object(key)[1:])
			return data
		}, 1},
		{"the record's last line is torn", func(t *testing.T, b *bench, _ *shiptest.Memory) []byte {
			name := recordFile(t, b)
			info, _ := os.Stat(name)
			if err := os.Truncate(name, info.Size()-10); err != nil {
				t.Fatal(err)
			}
			return data
		}, 1},
		{"the record is lost", func(t *testing.T, b *bench, _ *shiptest.Memory) []byte {
			if err := os.Remove(recordFile(t, b)); err != nil {
				t.Fatal(err)
			}
			return data
		}, segments},
		{"the record is garbage", func(t *testing.T, b *bench, _ *shiptest.Memory) []byte {
			if err := os.WriteFile(recordFile(t, b), []byte("\x00\x00\x00"), 0o600); err != nil {
				t.Fatal(err)
			}
			return data
		}, segments},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			store := shiptest.NewMemory()
			b := newBench(t, store)
			interrupt(t, b, full("g1"), data)
			second := c.change(t, b, store)
			s := b.upload(b.host(), full("g1"), second)
			if s.Uploaded != c.uploaded {
				t.Errorf("%d segments uploaded again, want %d: %+v", s.Uploaded, c.uploaded, s)
			}
			if got, err := b.read(b.reader(), s.ID); err != nil || !bytes.Equal(got, second) {
				t.Errorf("read back: %d bytes, %v", len(got), err)
			}
			if _, problems, err := b.reader().Verify(t.Context(), ship.VerifyOptions{}, nil); err != nil || len(problems) != 0 {
				t.Errorf("verify: %v, %v", problems, err)
			}
		})
	}
}

// TestOtherUploadsAreNotContinued: a record is for one snapshot, base and set
// of recipients.
func TestOtherUploadsAreNotContinued(t *testing.T) {
	data := noise(9, 5*slice)
	store := shiptest.NewMemory()
	b := newBench(t, store)
	interrupt(t, b, full("g1"), data)
	if s := b.upload(b.host(), full("g2"), data); s.Reused != 0 {
		t.Errorf("another snapshot: %+v", s)
	}
	other, _ := age.GenerateX25519Identity()
	r, err := ship.Open(t.Context(), store, ship.OpenOptions{Signer: b.signer, Recipients: []age.Recipient{other.Recipient()}})
	if err != nil {
		t.Fatal(err)
	}
	if s := b.upload(r, full("g1"), data); s.Reused != 0 {
		t.Errorf("other recipients, which could not read the old segments: %+v", s)
	}
	heads, err := b.records.Active()
	if err != nil || len(heads) != 1 || heads[0].GUID != "g1" {
		t.Fatalf("records: %+v, %v", heads, err)
	}
	if err := b.records.Forget(heads[0].Stream); err != nil {
		t.Error(err)
	}
	if s := b.upload(b.host(), full("g1"), data); s.Reused != 0 {
		t.Errorf("a forgotten record: %+v", s)
	}
}

// TestDiedAfterCommit: the manifest is there, the record too.
func TestDiedAfterCommit(t *testing.T) {
	data := noise(9, 5*slice)
	store := shiptest.NewMemory()
	b := newBench(t, store)
	b.store = shiptest.NewFaults(store, shiptest.Fault{Op: "put", Key: "meta/streams/", Nth: 1, After: true, Err: errScripted})
	h := full("g1")
	if _, err := b.host().Upload(t.Context(), h, source(data), b.records, nil); !errors.Is(err, errScripted) {
		t.Fatalf("got %v", err)
	}
	b.store = store
	h.Number = 3 // planned anew
	// The record stays until a point is known to name the stream: a crash
	// before that must not make a second one.
	for range 2 {
		again, err := b.host().Upload(t.Context(), h, source(data), b.records, nil)
		if heads, _ := b.records.Active(); err != nil || again.Uploaded != 0 || again.Reused != 5 || len(heads) != 1 {
			t.Errorf("got %+v, %v, records %v", again, err, heads)
		}
	}
	s := b.upload(b.host(), h, data)
	if s.Uploaded != 0 || s.Reused != 5 || len(store.Keys("meta/streams/")) != 1 {
		t.Errorf("got %+v, streams %q", s, store.Keys("meta/streams/"))
	}
	if heads, _ := b.records.Active(); len(heads) != 0 {
		t.Errorf("records left: %v", heads)
	}
}

func TestLostAnswers(t *testing.T) {
	data := noise(9, 5*slice)
	store := shiptest.NewMemory()
	b := newBench(t, store)
	b.store = ship.Retry(shiptest.NewFaults(store,
		shiptest.Fault{Op: "put", Key: "data/", Nth: 3, After: true, Err: ship.ErrUnavailable},
		shiptest.Fault{Op: "put", Key: "data/", Nth: 4, Err: ship.ErrUnavailable},
		shiptest.Fault{Op: "put", Key: "meta/streams/", Nth: 1, After: true, Err: ship.ErrUnavailable},
		shiptest.Fault{Op: "put", Key: "meta/points/", Nth: 1, After: true, Err: ship.ErrUnavailable},
		shiptest.Fault{Op: "list", Nth: 1, After: true, Err: ship.ErrUnavailable},
		shiptest.Fault{Op: "get", Key: "data/", Nth: 2, Cut: 10},
		shiptest.Fault{Op: "get", Key: "meta/", Nth: 2, Cut: 10},
	), ship.RetryPolicy{First: time.Millisecond})
	w := b.host()
	s := b.upload(w, full("g1"), data)
	b.point(w, s)
	if got, err := b.read(b.reader(), s.ID); err != nil || !bytes.Equal(got, data) {
		t.Errorf("read back: %d bytes, %v", len(got), err)
	}
	if len(store.Rewrites()) != 0 || len(store.Keys("meta/")) != 2 || store.OpenReaders() != 0 {
		t.Errorf("rewritten %q, listed %q, %d readers open", store.Rewrites(), store.Keys("meta/"), store.OpenReaders())
	}
}

func TestCancel(t *testing.T) {
	data := noise(9, 30*slice)
	store := shiptest.NewMemory()
	b := newBench(t, store)
	ctx, cancel := context.WithCancel(t.Context())
	b.store = shiptest.NewFaults(store, shiptest.Fault{Op: "put", Key: "data/", Nth: 10, Hang: true, Do: cancel})
	if _, err := b.host().Upload(ctx, full("g1"), source(data), b.records, nil); !errors.Is(err, context.Canceled) {
		t.Fatalf("got %v", err)
	}
	b.store = store
	s := b.upload(b.host(), full("g1"), data)
	if s.Reused < 5 || s.Reused+s.Uploaded != 30 {
		t.Errorf("got %+v", s)
	}
}

func TestProgressAddsUp(t *testing.T) {
	data := noise(9, 30*slice)
	b := newBench(t, shiptest.NewMemory())
	var last ship.Progress
	s, err := b.host().Upload(t.Context(), full("g1"), source(data), nil, func(p ship.Progress) {
		if p.Segments != last.Segments+1 || p.SentBytes <= last.SentBytes {
			t.Errorf("from %+v to %+v", last, p)
		}
		last = p
	})
	if err != nil || last.SentBytes != s.SentBytes || last.StoredBytes != s.StoredBytes || last.Segments != s.Segments {
		t.Errorf("last %+v, stream %+v, %v", last, s, err)
	}
}

// TestTwoAtOnce: two processes must not ship one stream, and one process may
// ship two.
func TestTwoAtOnce(t *testing.T) {
	b := newBench(t, shiptest.NewMemory())
	r := b.host()
	data := noise(9, 30*slice)
	errs := make(chan error, 4)
	for i := range cap(errs) {
		go func() {
			_, err := r.Upload(t.Context(), full(fmt.Sprint("g", i)), source(data), b.records, nil)
			errs <- err
		}()
	}
	for range cap(errs) {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
	interrupt(t, b, full("g9"), data)
	begun, release := make(chan bool), make(chan bool)
	go func() {
		_, err := r.Upload(t.Context(), full("g9"), func(context.Context) (io.ReadCloser, error) {
			close(begun)
			<-release
			return source(data)(t.Context())
		}, b.records, nil)
		errs <- err
	}()
	<-begun
	if _, err := b.host().Upload(t.Context(), full("g9"), source(data), b.records, nil); !errors.Is(err, ship.ErrBusy) {
		t.Errorf("the second: got %v, want ErrBusy", err)
	}
	close(release)
	if err := <-errs; err != nil {
		t.Errorf("the first: %v", err)
	}
}

func TestDamagedSegmentIsNamedAndNotDelivered(t *testing.T) {
	const segments, bad = 10, 6
	store := shiptest.NewMemory()
	b := newBench(t, store)
	data := noise(9, segments*slice)
	s := b.upload(b.host(), full("g1"), data)
	good := map[string][]byte{}
	keys := store.Keys("data/")
	for _, k := range keys {
		good[k] = store.Object(k)
	}
	for name, change := range map[string]func([]byte) []byte{
		"one bit": func(o []byte) []byte { o[len(o)/2] ^= 1; return o },
		"shorter": func(o []byte) []byte { return o[:len(o)-1] },
		"longer":  func(o []byte) []byte { return append(o, 0) },
		"missing": func([]byte) []byte { return nil },
		"another": func([]byte) []byte { return good[keys[2]] },
	} {
		store.Tamper(keys[bad], change(bytes.Clone(good[keys[bad]])))
		got, err := b.read(b.reader(), s.ID)
		if err == nil || !strings.Contains(err.Error(), keys[bad]) || !errors.Is(err, ship.ErrDamaged) && !errors.Is(err, ship.ErrNotFound) || errors.Is(err, io.EOF) {
			t.Errorf("%s: got %v, want an error that names %s", name, err, keys[bad])
		}
		if !bytes.Equal(got, data[:bad*slice]) {
			t.Errorf("%s: %d bytes delivered, want those before the damage, %d", name, len(got), bad*slice)
		}
		_, problems, err := b.reader().Verify(t.Context(), ship.VerifyOptions{}, nil)
		if err != nil || len(problems) != 0 {
			t.Errorf("%s: no point needs it, and verify says %v, %v", name, problems, err)
		}
	}
}

func TestReaderIsClosedEarly(t *testing.T) {
	store := shiptest.NewMemory()
	b := newBench(t, store)
	s := b.upload(b.host(), full("g1"), noise(9, 50*slice))
	r := b.reader()
	chain, err := r.Chain(t.Context(), s.ID, nil)
	if err != nil {
		t.Fatal(err)
	}
	for n := range 5 {
		in, err := r.Read(t.Context(), chain[0], nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.CopyN(io.Discard, in, int64(n*slice)); err != nil {
			t.Error(err)
		}
		for range 2 {
			if err := in.Close(); err != nil {
				t.Error(err)
			}
		}
		if n, err := in.Read(make([]byte, 10)); n != 0 || err == nil || errors.Is(err, io.EOF) {
			t.Errorf("read after close: %d, %v", n, err)
		}
	}
	if store.OpenReaders() != 0 {
		t.Errorf("%d readers left open", store.OpenReaders())
	}
}
