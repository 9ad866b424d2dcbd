package agent

import (
	"slices"
	"testing"
	"time"

	"snapd/internal/config"
	"snapd/internal/fs"
	"snapd/internal/retain"
)

// daily takes, ships and prunes once a day.
func (b *bench) daily(days int) {
	b.t.Helper()
	for range days {
		b.now = b.now.Add(day)
		b.take()
		b.ship()
		b.prune()
	}
}

// of counts the snapshots of a dataset.
func (b *bench) of(d fs.Dataset) int {
	n := 0
	for _, s := range b.storage.All() {
		if s.Dataset.GUID == d.GUID {
			n++
		}
	}
	return n
}

const keepsLittle = "keep-local = \"1h\"\nkeep = \"400 last\""

// TestTheFirstBaseGoes: where points are rare it would stay for most of a year,
// and increments go on without it.
func TestTheFirstBaseGoes(t *testing.T) {
	b := newBench(t, keepsLittle, "main")
	b.daily(1)
	first := b.storage.All()[0]
	b.daily(1)
	if !slices.Contains(b.storage.All(), first) {
		t.Fatal("the first base has gone already")
	}
	b.now = b.now.Add(skipAge)
	b.daily(1)
	if slices.Contains(b.storage.All(), first) {
		t.Error("the first base is still here after two months")
	}
	b.now = b.now.Add(day)
	b.take()
	if p := b.ship(); p[0].Shipped[0].Base == nil {
		t.Errorf("without it: %+v", p[0].Shipped)
	}
}

// TestBasesOfADatasetThatLeft stay while it may come back, and not for ever.
func TestBasesOfADatasetThatLeft(t *testing.T) {
	b := newBench(t, keepsLittle, "main")
	other, err := b.storage.Add(b.path("other"))
	b.check(err)
	shop := b.Config.Groups["shop"]
	both := shop
	both.Paths = []string{b.path("data"), b.path("other")}
	b.Config.Groups["shop"] = both
	b.daily(2)
	b.Config.Groups["shop"] = shop
	b.now = b.now.Add(day)
	_, err = b.Snapshot(t.Context(), []string{"shop"})
	t.Logf("without it: %v", err)
	b.ship()
	for _, c := range []struct {
		after time.Duration
		does  func()
		want  bool
	}{
		{0, nil, true},
		{leftAge, nil, true}, // no user has said that it is as it should be
		{0, func() { _, err := b.Accept(t.Context(), []string{"shop"}); b.check(err) }, false},
	} {
		b.now = b.now.Add(c.after)
		if c.does != nil {
			c.does()
		}
		b.prune()
		if got := b.of(other) > 0; got != c.want {
			t.Errorf("after %v its bases are here: %v", c.after, got)
		}
	}
	if b.of(b.dataset) == 0 {
		t.Error("the bases of the dataset that is left are gone")
	}
}

// TestBasesOfAChainThatIsOver: the next stream is a full one whatever is here.
func TestBasesOfAChainThatIsOver(t *testing.T) {
	b := newBench(t, keepsLittle+"\nfull-every = \"10d\"", "main")
	b.daily(3)
	first := b.storage.All()[0]
	b.now = b.now.Add(10 * day)
	b.take()
	if p := b.ship(); p[0].Shipped[0].Base != nil {
		t.Fatalf("%+v", p[0].Shipped)
	}
	b.now = b.now.Add(2 * time.Hour)
	if b.prune(); slices.Contains(b.storage.All(), first) || b.snaps() != 1 {
		t.Errorf("%d snapshots are here, want the newest", b.snaps())
	}
}

// TestBasesOfAGroupThatIsGone: it makes no points, so that nothing builds on them.
// Those of a dataset that another group has stay.
func TestBasesOfAGroupThatIsGone(t *testing.T) {
	b := newBench(t, keepsLittle, "main")
	b.daily(2)
	shop := b.Config.Groups["shop"]
	b.now = b.now.Add(day)
	delete(b.Config.Groups, "shop")
	b.Config.Groups["heir"] = config.Settings{Paths: shop.Paths}
	gone := func() {
		_, err := b.PruneAs(t.Context(), PruneOptions{Former: "shop", Keep: retain.Policy{Last: 1}})
		b.check(err)
	}
	_, err := b.Snapshot(t.Context(), []string{"heir"})
	b.check(err)
	before := b.snaps()
	if gone(); b.snaps() != before {
		t.Errorf("of %d snapshots %d are left, and the other group builds on them", before, b.snaps())
	}
	b.Config.Groups["heir"] = config.Settings{Paths: []string{t.TempDir()}}
	points, err := b.record.All()
	b.check(err)
	for _, p := range points {
		if p.Group == "heir" {
			b.check(b.record.Delete(p.ID))
		}
	}
	if gone(); b.snaps() > 2 { // the newest of the group, and that of the other one
		t.Errorf("%d snapshots are left", b.snaps())
	}
}
