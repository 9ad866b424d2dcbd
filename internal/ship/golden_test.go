package ship_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"testing"
	"time"

	"snapd/internal/point"
	"snapd/internal/ship"
	"snapd/internal/ship/dir"

	"filippo.io/age"
)

var makeGolden = flag.Bool("make-golden", false, "make testdata/v1 anew; only ever for a format that nobody has used")

const golden = "testdata/v1"

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
		writeGolden(t)
	}
	signer, err := os.ReadFile(filepath.Join(golden, "signing.pub"))
	if err != nil {
		t.Fatal(err)
	}
	trusted, err := ship.ParsePublicKey(string(signer))
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.Open(filepath.Join(golden, "identity"))
	if err != nil {
		t.Fatal(err)
	}
	defer text.Close()
	identities, err := age.ParseIdentities(text)
	if err != nil {
		t.Fatal(err)
	}
	store, err := dir.New(filepath.Join(golden, "repository"))
	if err != nil {
		t.Fatal(err)
	}
	r, err := ship.Open(t.Context(), store, ship.OpenOptions{Trusted: trusted, Identities: identities})
	if err != nil {
		t.Fatal(err)
	}
	points, problems, err := r.Points(t.Context(), nil)
	if err != nil || len(problems) != 0 || len(points) != 2 {
		t.Fatalf("points: %+v, %+v, %v", points, problems, err)
	}
	p := points[1]
	if p.Number != 2 || p.Consistency != point.Frozen || p.WindowUS != 4321 || p.Secret.Group != "shop" || p.Secret.Datasets[0].Dataset != "/srv/shop" || string(p.Secret.Containers) != `[{"name":"db"}]` {
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
}

func writeGolden(t *testing.T) {
	t.Helper()
	if err := os.MkdirAll(golden, 0o755); err != nil {
		t.Fatal(err)
	}
	store, err := dir.New(filepath.Join(golden, "repository"))
	if err != nil {
		t.Fatal(err)
	}
	if err := store.Make(); err != nil {
		t.Fatal(err)
	}
	b := newBenchWith(t, store, ship.EncryptionAge, 1<<10)
	if err := b.signer.Save(filepath.Join(golden, "signing.key")); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{"signing.pub": b.signer.Public().String(), "identity": b.identity.String()} {
		if err := os.WriteFile(filepath.Join(golden, name), []byte(text+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	w := b.host()
	s1 := b.upload(w, full("7c2b7f8e-0001-4c1d-9f7a-000000000001"), goldenStreams()[0])
	s2 := b.upload(w, on(s1, "7c2b7f8e-0001-4c1d-9f7a-000000000002"), goldenStreams()[1])
	for _, s := range []ship.Stream{s1, s2} {
		ps, _ := s.InPoint("btrfs")
		rec := ship.PointRecord{
			ID: point.NewID(time.Now()), Host: "host-1", Time: s.ID.Time(), Consistency: point.Frozen, WindowUS: 4321,
			Timings: point.Timings{Freeze: 210, Snapshot: 4000, Thaw: 80}, Streams: []ship.PointStream{ps},
			Secret: ship.Secret{
				Group: "shop", Host: "web1", Containers: json.RawMessage(`[{"name":"db"}]`),
				Datasets: []point.Dataset{{Driver: "btrfs", Dataset: "/srv/shop", Snapshot: "snapd_example", GUID: s.GUID, Origin: s.Origin, Paths: []string{"/srv/shop/data"}}},
				Members:  []point.Member{{Kind: "container", Name: "db", How: "cgroup"}},
			},
		}
		if _, err := w.PutPoint(t.Context(), rec, nil); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.RemoveAll(filepath.Join(golden, "repository", ".tmp")); err != nil {
		t.Fatal(err)
	}
}
