package ship_test

import (
	"bytes"
	"context"
	"io"
	"math/rand/v2"
	"testing"
	"time"

	"filippo.io/age"

	"snapd/internal/point"
	"snapd/internal/ship"
	"snapd/internal/ship/dir"
)

func TestFirst(t *testing.T) {
	ctx := t.Context()
	st, err := dir.New(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	signer, _ := ship.NewSigner()
	id, _ := age.GenerateX25519Identity()
	if _, err := ship.Create(ctx, st, ship.CreateOptions{Signer: signer, Encryption: "age", Now: time.Now()}); err != nil {
		t.Fatal(err)
	}
	r, err := ship.Open(ctx, st, ship.OpenOptions{Signer: signer, Recipients: []age.Recipient{id.Recipient()}, Identities: []age.Identity{id}})
	if err != nil {
		t.Fatal(err)
	}
	data := make([]byte, 50<<20)
	rng := rand.NewChaCha8([32]byte{})
	rng.Read(data)
	recs, err := ship.OpenRecords(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	p := point.NewID(time.Now())
	s, err := r.Upload(ctx, ship.Head{Point: p, Driver: "btrfs", Format: "btrfs-2", Origin: "o-1", GUID: "g-1", Host: "h"},
		func(context.Context) (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(data)), nil }, recs, nil)
	if err != nil {
		t.Fatal(err)
	}
	ps, _ := s.InPoint("btrfs")
	n, err := r.PutPoint(ctx, ship.PointRecord{ID: p, Host: "h", Time: time.Now(), Consistency: point.Crash, Streams: []ship.PointStream{ps}}, nil)
	if err != nil || n != 1 {
		t.Fatal(n, err)
	}
	pts, probs, err := r.Points(ctx, nil)
	if err != nil || len(probs) > 0 || len(pts) != 1 {
		t.Fatal(pts, probs, err)
	}
	ms, err := r.Chain(ctx, s.ID, nil)
	if err != nil {
		t.Fatal(err)
	}
	rd, err := r.Read(ctx, ms[0], nil)
	if err != nil {
		t.Fatal(err)
	}
	defer rd.Close()
	got, err := io.ReadAll(rd)
	if err != nil || !bytes.Equal(got, data) {
		t.Fatal(len(got), err)
	}
	t.Logf("%+v", s)
}
