package ship_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"testing"
	"time"

	"snapd/internal/advice"
	"snapd/internal/point"
	"snapd/internal/ship"
	"snapd/internal/ship/shiptest"

	"filippo.io/age"
)

// slice is small, so that streams of many segments are cheap.
const slice = 4 << 10

// bench is a repository with its keys, and what the test knows of it.
type bench struct {
	t        testing.TB
	store    ship.Store
	signer   *ship.Signer
	identity *age.X25519Identity
	records  *ship.Records
	recDir   string
	serial   int
}

func newBench(t testing.TB, store ship.Store) *bench {
	t.Helper()
	return newBenchWith(t, store, ship.EncryptionAge, slice)
}

func newBenchWith(t testing.TB, store ship.Store, encryption string, sliceBytes int) *bench {
	t.Helper()
	b := &bench{t: t, store: store, recDir: t.TempDir()}
	var err error
	if b.signer, err = ship.NewSigner(); err != nil {
		t.Fatal(err)
	}
	if b.identity, err = age.GenerateX25519Identity(); err != nil {
		t.Fatal(err)
	}
	if b.records, err = ship.OpenRecords(b.recDir); err != nil {
		t.Fatal(err)
	}
	if _, err := ship.Create(t.Context(), store, ship.CreateOptions{Signer: b.signer, Encryption: encryption, Now: time.Now(), SliceBytes: sliceBytes}); err != nil {
		t.Fatal(err)
	}
	return b
}

// host opens the repository as the host does, which cannot read.
func (b *bench) host() *ship.Repository {
	b.t.Helper()
	r, err := ship.Open(b.t.Context(), b.store, ship.OpenOptions{Signer: b.signer, Recipients: []age.Recipient{b.identity.Recipient()}})
	if err != nil {
		b.t.Fatal(err)
	}
	return r
}

// reader opens it as the owner of the recovery kit does, which cannot write.
func (b *bench) reader() *ship.Repository {
	b.t.Helper()
	r, err := ship.Open(b.t.Context(), b.store, ship.OpenOptions{Trusted: b.signer.Public(), Identities: []age.Identity{b.identity}})
	if err != nil {
		b.t.Fatal(err)
	}
	return r
}

// pointsOf are the points and problems of a whole look.
func pointsOf(t *testing.T, r *ship.Repository) ([]ship.PointRecord, []ship.Problem, error) {
	t.Helper()
	view, err := r.View(t.Context(), nil, ship.Whole)
	if err != nil {
		return nil, nil, err
	}
	return view.Points, view.Problems, nil
}

// noise is compressible by half and the same for the same seed.
func noise(seed uint64, size int) []byte {
	var key [32]byte
	key[0], key[1] = byte(seed), byte(seed>>8)
	data := make([]byte, size)
	for i := 0; i < size; i += 128 {
		_, _ = rand.NewChaCha8([32]byte{key[0], key[1], byte(i >> 7), byte(i >> 15), byte(i >> 23)}).Read(data[i:min(i+64, size)])
	}
	return data
}

func source(data []byte) ship.Source {
	return func(context.Context) (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(data)), nil }
}

func full(guid string) ship.Head {
	return ship.Head{Point: point.NewID(time.Now()), Driver: "btrfs", Format: "btrfs-2", Origin: "origin-1", GUID: guid, Host: "host-1"}
}

func on(base ship.Stream, guid string) ship.Head {
	h := full(guid)
	h.Base, h.Number, h.Depth = &base.StreamRef, base.Number+1, base.Depth+1
	return h
}

func (b *bench) upload(r *ship.Repository, h ship.Head, data []byte) ship.Stream {
	b.t.Helper()
	s, err := r.Upload(b.t.Context(), h, source(data), b.records, nil)
	if err != nil {
		b.t.Fatalf("upload %s: %v", h.GUID, err)
	}
	b.told(r, s)
	return s
}

// told does what the agent does once a point names the stream.
func (b *bench) told(r *ship.Repository, s ship.Stream) {
	b.t.Helper()
	if err := errors.Join(r.EndLease(b.t.Context(), s.ID), b.records.Forget(s.ID)); err != nil {
		b.t.Fatal(err)
	}
}

func (b *bench) point(r *ship.Repository, streams ...ship.Stream) point.ID {
	b.t.Helper()
	b.serial++
	rec := ship.PointRecord{
		ID: point.NewID(time.Now()), Host: "host-1", Time: time.Now(), Consistency: point.Frozen,
		WindowUS: 1234, HeldUS: 0, Timings: point.Timings{Freeze: 100, Snapshot: 900, Thaw: 50},
		Secret: ship.Secret{Group: "shop", Host: "web1", Datasets: []point.Dataset{{Driver: "btrfs", Dataset: "/srv/a shop@ä"}}},
	}
	for _, s := range streams {
		ps, err := s.InPoint("btrfs")
		if err != nil {
			b.t.Fatal(err)
		}
		rec.Streams = append(rec.Streams, ps)
	}
	if _, err := r.PutPoint(b.t.Context(), rec, nil); err != nil {
		b.t.Fatalf("put point: %v", err)
	}
	return rec.ID
}

func (b *bench) read(r *ship.Repository, id point.ID) ([]byte, error) {
	b.t.Helper()
	chain, err := r.Chain(b.t.Context(), id, nil)
	if err != nil {
		return nil, err
	}
	in, err := r.Read(b.t.Context(), chain[len(chain)-1], nil)
	if err != nil {
		return nil, err
	}
	defer in.Close()
	return io.ReadAll(in)
}

func TestRoundTrip(t *testing.T) {
	for _, encryption := range []string{ship.EncryptionAge, ship.EncryptionNone} {
		t.Run(encryption, func(t *testing.T) {
			store := shiptest.NewMemory()
			b := newBenchWith(t, store, encryption, slice)
			w, r := b.host, b.reader
			if encryption == ship.EncryptionNone {
				w = func() *ship.Repository {
					r, err := ship.Open(t.Context(), store, ship.OpenOptions{Signer: b.signer})
					if err != nil {
						t.Fatal(err)
					}
					return r
				}
			}
			for _, size := range []int{1, slice - 1, slice, slice + 1, 40*slice + 7} {
				data := noise(uint64(size), size)
				s := b.upload(w(), full("guid-"+point.NewID(time.Now()).String()), data)
				if want := (size + slice - 1) / slice; s.Segments != want || s.Uploaded != want || s.SentBytes != int64(size) {
					t.Errorf("%d bytes: got %+v, want %d segments", size, s, want)
				}
				got, err := b.read(r(), s.ID)
				if err != nil || !bytes.Equal(got, data) {
					t.Errorf("%d bytes: got %d back, %v", size, len(got), err)
				}
			}
			if store.OpenReaders() != 0 || len(store.Rewrites()) != 0 {
				t.Errorf("%d readers left open, rewritten: %q", store.OpenReaders(), store.Rewrites())
			}
			if heads, err := b.records.Active(); err != nil || len(heads) != 0 {
				t.Errorf("records left: %v, %v", heads, err)
			}
		})
	}
}

func TestNothingSecretIsInTheClear(t *testing.T) {
	store := shiptest.NewMemory()
	b := newBench(t, store)
	w := b.host()
	id := b.point(w, b.upload(w, full("g1"), bytes.Repeat([]byte("plain text of the stream "), 1000)))
	for _, key := range store.Keys("") {
		for _, word := range []string{"shop", "web1", "/srv", "plain text"} {
			if bytes.Contains(store.Object(key), []byte(word)) || bytes.Contains([]byte(key), []byte(word)) {
				t.Errorf("%s shows %q", key, word)
			}
		}
	}
	// The host that made the point cannot read its names again.
	points, problems, err := pointsOf(t, w)
	if err != nil || len(problems) > 0 || len(points) != 1 || !points[0].Sealed || points[0].Secret.Group != "" {
		t.Errorf("the host sees %+v, %v, %v", points, problems, err)
	}
	points, problems, err = pointsOf(t, b.reader())
	if err != nil || len(problems) > 0 || len(points) != 1 {
		t.Fatalf("the owner sees %+v, %v, %v", points, problems, err)
	}
	p := points[0]
	if p.Sealed || p.ID != id || p.Number != 1 || p.Secret.Group != "shop" || p.Secret.Datasets[0].Dataset != "/srv/a shop@ä" || p.WindowUS != 1234 {
		t.Errorf("the owner sees %+v", p)
	}
	// Another user's identity decrypts nothing, and is no damage.
	other, _ := age.GenerateX25519Identity()
	r, err := ship.Open(t.Context(), store, ship.OpenOptions{Trusted: b.signer.Public(), Identities: []age.Identity{other}})
	if err != nil {
		t.Fatal(err)
	}
	points, problems, err = pointsOf(t, r)
	if err != nil || len(problems) > 0 || !points[0].Sealed {
		t.Errorf("a stranger sees %+v, %v, %v", points, problems, err)
	}
	if _, err := b.read(r, p.Streams[0].Stream); !errors.Is(err, ship.ErrNoIdentity) {
		t.Errorf("a stranger reads: %v", err)
	}
	if _, err := b.read(w, p.Streams[0].Stream); !errors.Is(err, ship.ErrNoIdentity) {
		t.Errorf("the host reads: %v", err)
	}
}

func TestCreateAndOpen(t *testing.T) {
	store := shiptest.NewMemory()
	signer, _ := ship.NewSigner()
	other, _ := ship.NewSigner()
	if _, err := ship.Open(t.Context(), store, ship.OpenOptions{Signer: signer}); !errors.Is(err, ship.ErrNotRepository) || advice.Of(err) == "" {
		t.Errorf("open nothing: %v (hint %q)", err, advice.Of(err))
	}
	o := ship.CreateOptions{Signer: signer, Encryption: ship.EncryptionNone, Now: time.Now()}
	if _, err := ship.Create(t.Context(), store, ship.CreateOptions{Signer: signer, Encryption: "rot13", Now: time.Now()}); err == nil {
		t.Error("create with an unknown encryption: no error")
	}
	made, err := ship.Create(t.Context(), store, o)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ship.Create(t.Context(), store, o); !errors.Is(err, ship.ErrExists) {
		t.Errorf("create again: got %v, want ErrExists", err)
	}
	r, err := ship.Open(t.Context(), store, ship.OpenOptions{Trusted: signer.Public()})
	if err != nil || r.ID != made.ID || r.SliceBytes != 16<<20 {
		t.Errorf("open: got %+v, %v", r, err)
	}
	if _, err := ship.Open(t.Context(), store, ship.OpenOptions{Signer: other}); !errors.Is(err, ship.ErrSignature) {
		t.Errorf("open with another key: got %v, want ErrSignature", err)
	}
	if _, err := ship.Open(t.Context(), store, ship.OpenOptions{}); err == nil {
		t.Error("open without any key: no error")
	}
	if _, err := r.Upload(t.Context(), full("g"), source([]byte("x")), nil, nil); !errors.Is(err, ship.ErrReadOnly) {
		t.Errorf("upload without a signing key: got %v, want ErrReadOnly", err)
	}
	// A lost answer of the put is no second repository.
	lost := shiptest.NewFaults(shiptest.NewMemory(), shiptest.Fault{Op: "put", Nth: 1, After: true, Err: ship.ErrUnavailable})
	if _, err := ship.Create(t.Context(), ship.Retry(lost, ship.RetryPolicy{First: time.Millisecond}), o); err != nil {
		t.Errorf("create with a lost answer: %v", err)
	}
}

func TestChain(t *testing.T) {
	store := shiptest.NewMemory()
	b := newBench(t, store)
	w := b.host()
	s1 := b.upload(w, full("g1"), noise(1, 3*slice))
	s2 := b.upload(w, on(s1, "g2"), noise(2, slice))
	s3 := b.upload(w, on(s2, "g3"), noise(3, 10))
	chain, err := b.reader().Chain(t.Context(), s3.ID, nil)
	if err != nil || len(chain) != 3 || chain[0].ID != s1.ID || chain[2].ID != s3.ID || chain[2].BaseGUID != "g2" || chain[0].Base != "" {
		t.Fatalf("got %v, %v", chain, err)
	}
	for name, h := range map[string]ship.Head{
		"wrong depth":   func() ship.Head { h := on(s2, "g4"); h.Depth = 7; return h }(),
		"other dataset": func() ship.Head { h := on(s2, "g4"); h.Origin = "origin-2"; return h }(),
		"same snapshot": on(s2, "g2"),
		"base not there": func() ship.Head {
			h := on(s2, "g4")
			gone := *h.Base
			gone.Key = "meta/streams/" + string(s3.ID) + ".a.b.full.0.0"
			h.Base = &gone
			return h
		}(),
		"bad guid":       full("a guid"),
		"full with base": func() ship.Head { h := on(s2, "g4"); h.Base = nil; return h }(),
	} {
		if _, err := w.Upload(t.Context(), h, source([]byte("x")), nil, nil); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	// A manifest that was renamed to stand for another base does not verify.
	body := store.Object(s1.Key)
	store.Tamper(s2.Key, body)
	if _, err := b.reader().Chain(t.Context(), s3.ID, nil); !errors.Is(err, ship.ErrSignature) {
		t.Errorf("a swapped manifest: got %v, want ErrSignature", err)
	}
	store.Tamper(s2.Key, nil)
	if _, err := b.reader().Chain(t.Context(), s3.ID, nil); !errors.Is(err, ship.ErrNotFound) {
		t.Errorf("a missing base: got %v, want ErrNotFound", err)
	}
}

func TestPointsAreNumberedAndChained(t *testing.T) {
	store := shiptest.NewMemory()
	b := newBench(t, store)
	w := b.host()
	s := b.upload(w, full("g1"), noise(1, slice))
	p1 := b.point(w, s)
	b.point(w, s)
	b.point(b.host(), s) // another process
	points, problems, err := pointsOf(t, b.reader())
	if err != nil || len(problems) != 0 || len(points) != 3 || points[0].ID != p1 || points[2].Number != 3 {
		t.Fatalf("got %+v, %v, %v", points, problems, err)
	}
	// Put again, because the host died before it noted the success.
	ps := points[2]
	if n, err := b.host().PutPoint(t.Context(), ps, nil); err != nil || n != 3 {
		t.Errorf("the same point again: got number %d, %v, want 3", n, err)
	}
	// A damaged point does not keep new ones from being made.
	shiptest.FlipBit(t, store, "meta/points/0000000003")
	b.point(b.host(), s)
	points, problems, err = pointsOf(t, b.reader())
	if err != nil || len(points) != 3 || len(problems) != 1 || problems[0].Object != "meta/points/0000000003" {
		t.Errorf("with a damaged one: got %d points, %v, %v", len(points), problems, err)
	}
}

func TestCloneIsNoticed(t *testing.T) {
	store := shiptest.NewMemory()
	b := newBench(t, store)
	one, clone := b.host(), b.host()
	s := b.upload(one, full("g1"), noise(1, slice))
	index, err := clone.View(t.Context(), nil, ship.Whole)
	if err != nil {
		t.Fatal(err)
	}
	b.point(one, s)
	ps, _ := s.InPoint("btrfs")
	rec := ship.PointRecord{ID: point.NewID(time.Now()), Host: "host-1", Time: time.Now(), Consistency: point.Crash, Streams: []ship.PointStream{ps}}
	if _, err := clone.PutPoint(t.Context(), rec, index); !errors.Is(err, ship.ErrConflict) || advice.Of(err) == "" {
		t.Errorf("got %v, want ErrConflict with a hint", err)
	}
	if len(store.Rewrites()) != 0 {
		t.Errorf("rewritten: %q", store.Rewrites())
	}
}
