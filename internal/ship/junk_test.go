package ship_test

import (
	"testing"
	"time"

	"snapd/internal/point"
	"snapd/internal/ship"
	"snapd/internal/ship/shiptest"

	"filippo.io/age"
)

// Points that others than the recipients of now open are told: number 10 of the
// issue.
func TestOtherRecipients(t *testing.T) {
	b := newBench(t, shiptest.NewMemory())
	repo := b.host()
	s, err := repo.Upload(t.Context(), full("g1"), source(noise(1, 100)), b.records, nil)
	if err != nil {
		t.Fatal(err)
	}
	in, err := s.InPoint("btrfs")
	if err != nil {
		t.Fatal(err)
	}
	rec := ship.PointRecord{ID: point.NewID(time.Now()), Host: "host", Time: time.Now().UTC(), Consistency: point.Crash, Streams: []ship.PointStream{in}}
	if _, err := repo.PutPoint(t.Context(), rec, nil); err != nil {
		t.Fatal(err)
	}
	another, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	changed, err := ship.Open(t.Context(), b.store, ship.OpenOptions{Signer: b.signer, Recipients: []age.Recipient{b.identity.Recipient(), another.Recipient()}})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name string
		repo *ship.Repository
		want int
	}{{"the same", repo, 0}, {"one more", changed, 1}} {
		v, err := c.repo.View(t.Context(), nil, ship.Whole)
		if err != nil {
			t.Fatal(err)
		}
		if other, mixed := c.repo.OtherRecipients(v); len(other) != c.want || len(mixed) != 0 {
			t.Errorf("%s: other %v, mixed %v", c.name, other, mixed)
		}
	}
}
