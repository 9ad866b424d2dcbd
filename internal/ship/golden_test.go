package ship_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"snapd/internal/advice"
	"snapd/internal/point"
	"snapd/internal/ship"
	"snapd/internal/ship/dir"
	"snapd/internal/ship/shiptest"

	"filippo.io/age"
)

var makeGolden = flag.Bool("make-golden", false, "make testdata/v2 anew; only ever for a format that no release has used")

// golden are the folders with an example of each version of the format; the
// last is of the one that is written now.
func golden() []string { return []string{"testdata/v1", "testdata/v2"} }

// goldenStreams are what the streams of the example hold.
func goldenStreams() [][]byte {
	return [][]byte{
		bytes.Repeat([]byte("The full stream of the golden example.\n"), 60),
		bytes.Repeat([]byte("An increment.\n"), 10),
	}
}

// TestGolden reads the example repository of every version of the format as a
// stranger would with the recovery kit: what was written once can be read for
// ever.
func TestGolden(t *testing.T) {
	if *makeGolden {
		writeGolden(t, golden()[1])
	}
	for _, folder := range golden() {
		t.Run(filepath.Base(folder), func(t *testing.T) { testGolden(t, folder) })
	}
}

func testGolden(t *testing.T, folder string) {
	t.Helper()
	store, err := dir.New(filepath.Join(folder, "repository"))
	if err != nil {
		t.Fatal(err)
	}
	trusted, identities := goldenKeys(t, folder)
	r, err := ship.Open(t.Context(), store, ship.OpenOptions{Trusted: trusted, Identities: identities})
	if err != nil {
		t.Fatal(err)
	}
	v := look(t, r, nil, ship.Whole)
	if len(v.Points) != 2 || len(v.Problems) != 0 || len(v.Damage()) != 0 {
		t.Fatalf("points: %+v, %+v, %+v", v.Points, v.Problems, v.Damage())
	}
	p := v.Points[slices.IndexFunc(v.Points, func(p ship.PointRecord) bool { return p.Number == 2 })]
	if p.Consistency != point.Frozen || p.WindowUS != 4321 || p.Secret.Group != "shop" || p.Secret.Datasets[0].Dataset != "/srv/shop" || string(p.Secret.Containers) != `[{"name":"db"}]` {
		t.Errorf("point: %+v", p)
	}
	chain, err := r.Chain(t.Context(), p.Streams[0].Stream, nil)
	if err != nil || len(chain) != 2 {
		t.Fatalf("chain: %v, %v", chain, err)
	}
	b := &bench{t: t}
	for i, m := range chain {
		if got, err := b.read(r, m.ID); err != nil || !bytes.Equal(got, goldenStreams()[i]) {
			t.Errorf("stream %d: %q, %v", i, got, err)
		}
	}
	if checked, problems, err := r.Verify(t.Context(), ship.VerifyOptions{Deep: true}, nil); err != nil || len(problems) != 0 || checked.Streams != 2 || checked.Segments != 4 {
		t.Errorf("verify: %+v, %+v, %v", checked, problems, err)
	}
	if folder == golden()[0] {
		return
	}
	leases, problems, err := r.Leases(t.Context())
	if err != nil || len(problems) != 0 || len(leases) != 1 || leases[0].Base != chain[1].ID || leases[0].Count != 2 {
		t.Errorf("leases: %+v, %+v, %v", leases, problems, err)
	}
	if !v.Pinned(p.ID) || !v.HasPoint(3) || v.HasPoint(1) || v.Highest() != 3 || v.Adopted() != "host-1" {
		t.Errorf("ledger: pinned %v, highest %d, adopted %q", v.Pinned(p.ID), v.Highest(), v.Adopted())
	}
}

func goldenKeys(t *testing.T, folder string) (ship.PublicKey, []age.Identity) {
	t.Helper()
	signer, err := os.ReadFile(filepath.Join(folder, "signing.pub"))
	if err != nil {
		t.Fatal(err)
	}
	trusted, err := ship.ParsePublicKey(string(signer))
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(folder, "identity"))
	if err != nil {
		t.Fatal(err)
	}
	identities, err := age.ParseIdentities(bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	return trusted, identities
}

// goldenCopy is an example in a store that may be written to, with its keys.
func goldenCopy(t *testing.T, folder string) (*bench, *shiptest.Memory) {
	t.Helper()
	from, err := dir.New(filepath.Join(folder, "repository"))
	if err != nil {
		t.Fatal(err)
	}
	store := shiptest.NewMemory()
	err = from.List(t.Context(), "", func(o ship.Object) error {
		text, err := os.ReadFile(filepath.Join(folder, "repository", o.Key))
		store.Tamper(o.Key, text)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	key := filepath.Join(t.TempDir(), "signing.key")
	text, err := os.ReadFile(filepath.Join(folder, "signing.key"))
	if err == nil {
		err = os.WriteFile(key, text, 0o600) // a checkout has it readable by all
	}
	if err != nil {
		t.Fatal(err)
	}
	b := &bench{t: t, store: store, recDir: t.TempDir()}
	if b.signer, err = ship.LoadSigner(key); err != nil {
		t.Fatal(err)
	}
	_, identities := goldenKeys(t, folder)
	b.identity = identities[0].(*age.X25519Identity)
	if b.records, err = ship.OpenRecords(b.recDir); err != nil {
		t.Fatal(err)
	}
	return b, store
}

// TestVersionOneIsShippedToAndPruned: objects of version 2 lie beside those of
// version 1, and the numbers that version 1 removed are written down once.
func TestVersionOneIsShippedToAndPruned(t *testing.T) {
	b, store := goldenCopy(t, golden()[0])
	w := b.host()
	v := look(t, w, nil, ship.Whole)
	first, second := v.Points[0], v.Points[1]
	base, ok := v.BySnapshot(second.Streams[0].Origin, second.Streams[0].GUID)
	if !ok || base.Recipients != "" || base.BaseGUID == "" {
		t.Fatalf("base: %+v", base)
	}
	store.Tamper("meta/points/0000000001", nil) // as a prune of version 1 did
	h := full("g3")
	h.Origin = base.Origin
	h.Base, h.Number, h.Depth = &base, base.Number+1, base.Depth+1
	if _, err := w.Upload(t.Context(), h, source(noise(3, slice)), b.records, nil); err == nil {
		t.Error("a stream of which nothing says which users can decrypt it was built on")
	}
	h.Base, h.Depth = nil, 0
	s3 := b.upload(w, h, noise(3, slice))
	b.point(w, s3)
	v = look(t, b.host(), nil, ship.Whole)
	if len(v.Points) != 2 || v.Highest() != 3 || len(v.Problems) != 1 || v.Problems[0].Kind != ship.KindOldGaps || !v.Whole(s3.ID) {
		t.Fatalf("mixed: %d points, %+v", len(v.Points), v.Problems)
	}
	if _, err := b.host().Prune(t.Context(), nil, nil, later()); err != nil {
		t.Fatal(err)
	}
	v = look(t, b.host(), nil, ship.Whole)
	if len(v.Problems) != 0 || v.Dropped(first.ID) || len(store.Keys("meta/ledger/")) != 1 {
		t.Errorf("after a prune: %+v, %q", v.Problems, store.Keys("meta/ledger/"))
	}
	verifyClean(t, b)
	// From now on a gap is a loss, also among the old numbers.
	store.Tamper("meta/points/0000000002", nil)
	if v := look(t, b.host(), nil, ship.Whole); !hasProblem(v, "point number 2 is missing") {
		t.Errorf("a loss: %+v", v.Problems)
	}
	if _, err := b.host().Prune(t.Context(), nil, nil, later()); !errors.Is(err, advice.Damaged) {
		t.Errorf("prune after a loss: %v", err)
	}
}

func writeGolden(t *testing.T, folder string) {
	t.Helper()
	if err := os.MkdirAll(folder, 0o755); err != nil {
		t.Fatal(err)
	}
	store, err := dir.New(filepath.Join(folder, "repository"))
	if err != nil {
		t.Fatal(err)
	}
	if err := store.Make(); err != nil {
		t.Fatal(err)
	}
	b := newBenchWith(t, store, ship.EncryptionAge, 1<<10)
	if err := b.signer.Save(filepath.Join(folder, "signing.key")); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{"signing.pub": b.signer.Public().String(), "identity": b.identity.String()} {
		if err := os.WriteFile(filepath.Join(folder, name), []byte(text+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	w := b.host()
	s1 := b.upload(w, full("7c2b7f8e-0001-4c1d-9f7a-000000000001"), goldenStreams()[0])
	s2 := b.upload(w, on(s1, "7c2b7f8e-0001-4c1d-9f7a-000000000002"), goldenStreams()[1])
	v := look(t, w, nil, ship.Whole)
	var ids []point.ID
	put := func(id point.ID, s ship.Stream) {
		ps, _ := s.InPoint("btrfs")
		rec := ship.PointRecord{
			ID: id, Host: "host-1", Time: s.ID.Time(), Consistency: point.Frozen, WindowUS: 4321,
			Timings: point.Timings{Freeze: 210, Snapshot: 4000, Thaw: 80}, Streams: []ship.PointStream{ps},
			Secret: ship.Secret{
				Group: "shop", Host: "web1", Containers: json.RawMessage(`[{"name":"db"}]`),
				Datasets: []point.Dataset{{Driver: "btrfs", Dataset: "/srv/shop", Snapshot: "snapd_example", GUID: s.GUID, Origin: s.Origin, Paths: []string{"/srv/shop/data"}}},
				Members:  []point.Member{{Kind: "container", Name: "db", How: "cgroup"}},
			},
		}
		if _, err := w.PutPoint(t.Context(), rec, v); err != nil {
			t.Fatal(err)
		}
		ids = append(ids, id)
	}
	put(point.NewID(time.Now()), s1)
	put(point.NewID(time.Now()), s2)
	// The full stream is lost, noted, and shipped anew; the point is put again.
	for _, key := range append(keysOf(t, store, "data/"+string(s1.ID)+"/"), s1.Key) {
		if err := store.Delete(t.Context(), key); err != nil {
			t.Fatal(err)
		}
	}
	lost := ship.Damage{Stream: s1.ID, Object: s1.Key, Problem: "not found"}
	err = errors.Join(w.NoteDamage(t.Context(), v, []ship.Damage{lost}), w.Pin(t.Context(), v, ids[1:2]), w.Adopt(t.Context(), v, "host-1"))
	if err != nil {
		t.Fatal(err)
	}
	put(ids[0], b.upload(w, full("7c2b7f8e-0001-4c1d-9f7a-000000000001"), goldenStreams()[0]))
	if _, err := w.Prune(t.Context(), v, nil, later()); err != nil {
		t.Fatal(err)
	}
	for _, key := range keysOf(t, store, "meta/leases/") {
		if err := store.Delete(t.Context(), key); err != nil {
			t.Fatal(err)
		}
	}
	if err := ship.PutLeaseForTest(t.Context(), w, point.NewID(time.Now()), s2.ID, 2); err != nil {
		t.Fatal(err)
	}
	for _, empty := range []string{".tmp", "data/" + string(s1.ID)} {
		if err := os.RemoveAll(filepath.Join(folder, "repository", empty)); err != nil {
			t.Fatal(err)
		}
	}
}

func keysOf(t *testing.T, s ship.Store, prefix string) []string {
	t.Helper()
	var keys []string
	err := s.List(t.Context(), prefix, func(o ship.Object) error {
		keys = append(keys, o.Key)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return keys
}
