package agent

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"snapd/internal/advice"
	"snapd/internal/config"
	"snapd/internal/freeze"
	"snapd/internal/fs"
	"snapd/internal/point"
	"snapd/internal/ship"
)

const day = 24 * time.Hour

func TestShipAfterAKill(t *testing.T) {
	for _, c := range []struct {
		name          string
		lose          string // what had not been put
		forget        bool   // the local record does not know of the stream either
		streams, puts int
	}{
		{"between manifest and record", "main/meta/points/*", true, 1, 1},
		{"between record and point", "main/meta/points/*", false, 1, 1},
		{"and a prune of its stream", "main/meta/*/*", false, 1, 1},
		{"between point and record", "", true, 1, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newBench(t, "", "main")
			p := b.take()
			b.ship()
			if c.lose != "" {
				b.lose(c.lose)
				b.amnesia() // it was never put
			}
			_, err := b.remember(t.Context(), p.ID, func(q *point.Point) {
				q.Numbers = nil
				if c.forget {
					q.Shipped = nil
				}
			})
			b.check(err)
			b.ship()
			x := b.view("main")
			q, err := b.record.Get(p.ID)
			b.check(err)
			if len(x.Streams()) != c.streams || len(x.Points) != c.puts || !wholeIn(q, x) || len(q.Shipped) != 1 {
				t.Errorf("%d streams, %d points, shipped %+v", len(x.Streams()), len(x.Points), q.Shipped)
			}
		})
	}
}

func TestRepositoryMadeAnew(t *testing.T) {
	b := newBench(t, `keep-local = "1h"`, "main")
	b.take()
	b.take()
	b.ship()
	b.create("main")
	b.now = b.now.Add(3 * day)
	if _, err := b.Prune(t.Context(), nil, false); err != nil {
		t.Fatal(err)
	}
	if b.snaps() != 2 {
		t.Fatalf("%d snapshots are left of 2 that no repository has", b.snaps())
	}
	b.ship()
	if x := b.view("main"); len(x.Points) != 2 {
		t.Errorf("%d points in the new repository, want 2", len(x.Points))
	}
}

func TestPruneWithoutTheRecord(t *testing.T) {
	b := newBench(t, "keep-local = \"1h\"\nkeep = \"1 last\"", "main")
	var ids []point.ID
	for range 3 {
		ids = append(ids, b.take().ID)
		b.ship()
	}
	unshipped := b.take()
	b.lose("state/points/*")
	b.now = b.now.Add(3 * day)
	pruned, err := b.Prune(t.Context(), nil, false)
	b.check(err)
	x := b.view("main")
	if len(x.Points) != 1 || x.Points[0].Number != 3 {
		t.Errorf("points left: %+v, verdicts %+v", x.Points, pruned)
	}
	for _, s := range b.storage.All() {
		if strings.HasSuffix(s.Name, string(ids[1])) {
			t.Error("a snapshot that is shipped and no base stayed for ever")
		}
	}
	if !slices.ContainsFunc(b.storage.All(), func(s fs.Snapshot) bool { return strings.HasSuffix(s.Name, string(unshipped.ID)) }) {
		t.Error("the only copy of a point was removed")
	}
	b.take()
	if p := b.ship(); len(p) != 1 || p[0].Shipped[0].Base == nil {
		t.Errorf("without the record the next ship is no increment: %+v", p)
	}
}

func TestPruneKeeps(t *testing.T) {
	for _, c := range []struct {
		name         string
		repositories []string
		group        string
		spoil        func(b *bench)
		want         int // snapshots of 3
	}{
		{"bases and the newest", []string{"main"}, "", func(*bench) {}, 2},
		{"what a silent repository may lack", []string{"main", "other"}, "", func(b *bench) { b.down["other"] = true }, 3},
		{"what one of two never got", []string{"main", "other"}, "", func(b *bench) { b.create("other") }, 3},
		{"what its policy keeps when no repository has it", nil, `keep = "2 last"`, func(*bench) {}, 2},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newBench(t, "keep-local = \"1h\"\n"+c.group, c.repositories...)
			for range 3 {
				b.take()
				if len(c.repositories) > 0 {
					b.ship()
				}
			}
			c.spoil(b)
			b.now = b.now.Add(3 * day)
			pruned, err := b.Prune(t.Context(), nil, false)
			if err != nil && !errors.Is(err, ship.ErrUnavailable) {
				t.Fatal(err)
			}
			if b.snaps() != c.want {
				t.Errorf("%d snapshots are left, want %d: %+v", b.snaps(), c.want, pruned)
			}
		})
	}
}

// The next best base stays when a user removed the best.
func TestPruneKeepsTheBaseThatIsLeft(t *testing.T) {
	b := newBench(t, `keep-local = "1h"`, "main")
	for range 3 {
		b.take()
		b.ship()
	}
	b.storage.Destroy(func(i int) bool { return i == 1 })
	b.now = b.now.Add(3 * day)
	_, err := b.Prune(t.Context(), nil, false)
	b.check(err)
	b.take()
	if p := b.ship(); p[0].Shipped[0].Base == nil {
		t.Error("the only base that was left is gone: the next ship was a full one")
	}
}

func TestPruneOfAnUnmountedFilesystem(t *testing.T) {
	b := newBench(t, `keep-local = "1h"`, "main")
	p, _ := b.take(), b.take()
	b.now = b.now.Add(3 * day)
	b.storage.Fault = func(call string) error {
		if call == "Snapshots" {
			return fs.ErrNotFound
		}
		return nil
	}
	_, err := b.Prune(t.Context(), nil, false)
	b.check(err)
	if _, err := b.record.Get(p.ID); err != nil {
		t.Errorf("a point that was never shipped was forgotten: %v", err)
	}
}

func TestPruneKeepsStreamsOfUnfinishedPoints(t *testing.T) {
	b := newBench(t, "", "main")
	p := b.take()
	b.ship()
	b.lose("main/meta/points/*") // as if a second dataset had not been shipped yet
	b.amnesia()
	_, err := b.remember(t.Context(), p.ID, func(q *point.Point) { q.Numbers = nil })
	b.check(err)
	b.now = b.now.Add(3 * day)
	_, err = b.Prune(t.Context(), nil, false)
	b.check(err)
	if found, _ := filepath.Glob(b.path("main/meta/streams/*")); len(found) != 1 {
		t.Error("a stream was removed that a point is about to name")
	}
}

func TestSnapshotsWithoutARecord(t *testing.T) {
	t.Run("it cannot be written", func(t *testing.T) {
		b := newBench(t, "")
		b.check(os.Remove(b.path("state/points")))
		if _, err := b.Snapshot(t.Context(), []string{"shop"}); err == nil {
			t.Fatal("a point without a record was reported as taken")
		}
		b.sweptClean()
	})
	t.Run("killed before it was written", func(t *testing.T) {
		b := newBench(t, "")
		p := b.take()
		b.check(b.taking.Put(p))
		b.lose("state/points/*")
		b.check(b.sweepTaken(t.Context()))
		b.sweptClean()
	})
	t.Run("killed after it was written", func(t *testing.T) {
		b := newBench(t, "")
		p := b.take()
		b.check(b.taking.Put(p))
		b.check(b.sweepTaken(t.Context()))
		if b.snaps() != 1 {
			t.Error("the snapshot of a recorded point was removed")
		}
	})
}

func (b *bench) sweptClean() {
	b.t.Helper()
	if left, err := b.taking.All(); b.snaps() != 0 || len(left) != 0 || err != nil {
		b.t.Errorf("left: %d snapshots, %d traces, %v", b.snaps(), len(left), err)
	}
}

func TestWorth(t *testing.T) {
	late := fmt.Errorf("window: %w", &freeze.Overrun{Taken: true})
	for _, c := range []struct {
		name      string
		err       error
		on        config.OnOverrun
		got, want int
		keep      bool
	}{
		{"all well", nil, config.OverrunFail, 2, 2, true},
		{"one is missing", nil, config.OverrunFail, 1, 2, false},
		{"overrun", late, config.OverrunFail, 1, 1, false},
		{"overrun kept as crash", late, config.OverrunCrash, 1, 1, true},
		{"overrun, and something else failed", &freeze.Overrun{}, config.OverrunCrash, 1, 1, false},
		{"a fault", errors.New("no"), config.OverrunCrash, 1, 1, false},
	} {
		if got := worth(c.err, c.on, c.got, c.want); got != c.keep {
			t.Errorf("%s: %v, want %v", c.name, got, c.keep)
		}
	}
}

func TestJoinPoints(t *testing.T) {
	there := ship.PointRecord{ID: "a", Number: 7, GroupTag: "t", Sealed: true, Streams: []ship.PointStream{{Stream: "s", GUID: "g", Origin: "o"}}}
	local := []point.Point{
		{ID: "a", Group: "shop", Datasets: []point.Dataset{{Dataset: "/srv", GUID: "g"}}, Numbers: map[string]int64{"main": 3}},
		{ID: "b", Numbers: map[string]int64{"main": 4, "other": 1}},
	}
	got := joinPoints("main", []ship.PointRecord{there}, local, nil)
	if len(got) != 2 || got[0].Numbers["main"] != 7 || got[0].Shipped[0].Dataset != "/srv" || got[1].InRepository("main") || !got[1].InRepository("other") {
		t.Errorf("joined: %+v", got)
	}
	if local[0].Numbers["main"] != 3 || len(local[0].Shipped) != 0 {
		t.Error("the local points were changed")
	}
	got = joinPoints("main", []ship.PointRecord{there}, nil, map[string]string{"t": "shop"})
	if len(got) != 1 || got[0].Group != "shop" {
		t.Errorf("without the record: %+v", got)
	}
}

func TestMatch(t *testing.T) {
	now := time.Now()
	points := []point.Point{{ID: "06ab", Group: "shop", Time: now}, {ID: "06ac", Group: "web", Time: now.Add(time.Hour)}}
	for wanted, want := range map[string]string{
		"06ab": "06ab", "latest": "06ac", "latest:shop": "06ab",
		"06a": "", "": "", "latest:none": "", "latestshop": "", "zz": "",
	} {
		p, err := match(points, wanted)
		if string(p.ID) != want || (err == nil) != (want != "") {
			t.Errorf("%q: %q, %v; want %q", wanted, p.ID, err, want)
		}
	}
}

func TestTargetsBelow(t *testing.T) {
	for _, c := range []struct{ names, want string }{
		{"/srv/a", ""},
		{"/srv/a /srv/b", "a b"},
		{"/srv/a/b /srv/a", "a-b a"},
		{"/ /srv", "root srv"},
		{"/srv/a-b /srv/a/b", "refused"},
		{"/srv/.. /srv/a", "refused"},
	} {
		to := t.TempDir()
		var datasets []point.Dataset
		for n := range strings.FieldsSeq(c.names) {
			datasets = append(datasets, point.Dataset{Dataset: n})
		}
		got, err := targetsBelow(to, datasets)
		short := "refused"
		if err == nil {
			short = strings.ReplaceAll(strings.Join(got, " "), to+"/", "")
			short = strings.TrimPrefix(short, to)
		}
		if short != c.want {
			t.Errorf("%s: %q, %v; want %q", c.names, short, err, c.want)
		}
	}
	two := []point.Dataset{{Driver: fs.LVM, Dataset: "vg/a"}, {Driver: fs.LVM, Dataset: "vg/b"}}
	if got, err := targetsBelow("to/pool", two); err != nil || strings.Join(got, " ") != "to/pool/a to/pool/b" {
		t.Errorf("two volumes into a pool: got %q, %v", got, err)
	}
	if got, err := targetsBelow("to/pool/name", two); !errors.Is(err, advice.Usage) || !strings.Contains(err.Error(), "names one volume") {
		t.Errorf("two volumes to one name: got %q, %v", got, err)
	}
}

// Who writes a target wrong is shown how it is written, on each storage: the
// caller knows the flag by this cause.
func TestWrongTargetShowsRightOnes(t *testing.T) {
	b := newBench(t, "", "main")
	for _, to := range []string{"", "/srv/restored", "lvm:", "lvmm:vg/restored"} {
		_, err := b.Restore(t.Context(), RestoreOptions{Point: "latest", To: to})
		if !errors.Is(err, advice.Usage) || !errors.Is(err, NoTarget) {
			t.Errorf("%q: got %v; hint %q", to, err, advice.Of(err))
		}
	}
}
