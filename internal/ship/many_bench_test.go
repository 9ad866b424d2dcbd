//go:build bench

package ship_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"snapd/internal/point"
	"snapd/internal/ship"
	"snapd/internal/ship/s3"

	"filippo.io/age"
)

// manyHours is when the first of the points was taken, before now.
const manyHours = 10_000

// TestFill is a tool of bench/many: it adds points with ten tiny segments each
// to the repository that a real run has begun, and to the local record of the
// host, until there are MANY_POINTS.
func TestFill(t *testing.T) {
	env := func(name string) string {
		value := os.Getenv(name)
		if value == "" {
			t.Fatalf("%s is not set: bench/many sets it", name)
		}
		return value
	}
	store, err := s3.New(s3.Options{Endpoint: env("MANY_ENDPOINT"), Bucket: env("MANY_BUCKET"), Prefix: env("MANY_PREFIX")})
	if err != nil {
		t.Fatal(err)
	}
	signer, err := ship.LoadSigner(env("MANY_KEY"))
	if err != nil {
		t.Fatal(err)
	}
	recipient, err := age.ParseX25519Recipient(env("MANY_RECIPIENT"))
	if err != nil {
		t.Fatal(err)
	}
	total, err := strconv.Atoi(env("MANY_POINTS"))
	if err != nil {
		t.Fatal(err)
	}
	r, err := ship.Open(t.Context(), store, ship.OpenOptions{Signer: signer, Recipients: []age.Recipient{recipient}})
	if err != nil {
		t.Fatal(err)
	}
	view, err := r.View(t.Context(), nil, ship.Whole)
	if err != nil || len(view.Problems) > 0 || len(view.Points) == 0 {
		t.Fatal(view, err)
	}
	have := len(view.Points)
	newest := view.Points[have-1]
	err = ship.FillForTest(t.Context(), r, ship.Fill{
		Points: total - have, Segments: 10, PerFull: 24, Data: true, Group: "data", Host: newest.Host, After: newest,
		Begin: time.Now().Add(-time.Duration(manyHours-have) * time.Hour),
		Each: func(rec ship.PointRecord) {
			s := rec.Streams[0]
			p := point.Point{
				ID: rec.ID, Group: "data", Host: "bench", Time: rec.Time.UTC(), Consistency: rec.Consistency, Datasets: rec.Secret.Datasets,
				Shipped: []point.Shipped{{
					Repository: "main", Dataset: "/srv/data", Stream: s.Stream, Base: s.Base, SentBytes: s.SentBytes, StoredBytes: s.StoredBytes,
					Segments: s.Segments, Digest: s.Digest.String(),
				}},
				Numbers: map[string]int64{"main": rec.Number},
			}
			text, err := json.Marshal(p)
			if err == nil {
				err = os.WriteFile(filepath.Join(env("MANY_RECORD"), string(p.ID)+".json"), text, 0o600)
			}
			if err != nil {
				t.Error(err)
			}
		},
	})
	if err != nil {
		t.Fatal(err)
	}
}
