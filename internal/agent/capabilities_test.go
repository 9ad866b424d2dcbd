package agent

import (
	"encoding/json"
	"errors"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"snapd/internal/advice"
	"snapd/internal/fs"
	"snapd/internal/fs/fstest"
	"snapd/internal/point"
	"snapd/internal/ship"
)

// marking is the driver in memory with bookmarks, holds and properties.
type marking struct {
	*fstest.Memory
	*fstest.Marks
	fstest.Describing
}

// All are the snapshots: Marks has another method of that name.
func (m *marking) All() []fs.Snapshot { return m.Memory.All() }

func newMarking(t *testing.T, group string) (*bench, *marking) {
	t.Helper()
	b := newBench(t, group, "main")
	b.storage.Fixed = true
	m := &marking{b.storage, fstest.NewMarks(b.storage), fstest.Describing{"quota": "5"}}
	b.Drivers[fs.Btrfs] = m
	return b, m
}

// TestBookmarksAreBases: with bookmarks no snapshot has to stay as a base, and
// increments go on; a bookmark goes when no repository has its stream.
func TestBookmarksAreBases(t *testing.T) {
	b, m := newMarking(t, "keep-local = \"1h\"\nkeep = \"2 last\"")
	for range 4 {
		b.take()
		if p := b.ship(); len(p) != 1 || len(m.Held()) > 0 {
			t.Fatalf("shipped %+v, held %q", p, m.Held())
		}
	}
	b.now = b.now.Add(day)
	_, err := b.Prune(t.Context(), nil, false)
	b.check(err)
	if b.snaps() != 1 {
		t.Errorf("%d snapshots stay, want only the newest", b.snaps())
	}
	for _, s := range m.Marks.All() {
		if _, there := b.view("main").BySnapshot(s.Dataset.GUID, s.GUID); !there {
			t.Errorf("the bookmark of %s stays, and no repository has its stream", s.Name)
		}
	}
	b.storage.Destroy(func(int) bool { return false })
	b.take()
	if p := b.ship(); p[0].Shipped[0].Base == nil {
		t.Errorf("with its bookmark only, the base is not used: %+v", p[0].Shipped)
	}
}

// TestLostBaseIsSaid: the record says that a better base was there once.
func TestLostBaseIsSaid(t *testing.T) {
	b, m := newMarking(t, "")
	for range 2 {
		b.take()
		b.ship()
	}
	first := func(i int) bool { return i == 0 }
	b.storage.Destroy(first)
	m.Marks.Destroy(first)
	b.take()
	if s := b.ship()[0].Shipped[0]; s.Base == nil || !strings.Contains(s.Why, "1 newer base is gone") {
		t.Errorf("got %+v", s)
	}
	none := func(int) bool { return false }
	b.storage.Destroy(none)
	m.Marks.Destroy(none)
	b.take()
	if s := b.ship()[0].Shipped[0]; s.Base != nil || !strings.Contains(s.Why, "full") || !strings.Contains(s.Why, "3 newer bases are gone") {
		t.Errorf("got %+v", s)
	}
}

// TestOtherFormatIsFull: a chain keeps its format; a stream of another begins
// a new one and says so.
func TestOtherFormatIsFull(t *testing.T) {
	b, _ := newMarking(t, "")
	b.take()
	b.ship()
	b.storage.Stream = "memory-2"
	b.take()
	if s := b.ship()[0].Shipped[0]; s.Base != nil || !strings.Contains(s.Why, ship.ErrOtherFormat.Error()) {
		t.Errorf("got %+v", s)
	}
}

// TestHoldsOutliveAFailure: what is to be continued stays held, through a
// prune too; what belongs to no ship is released.
func TestHoldsOutliveAFailure(t *testing.T) {
	b, m := newMarking(t, "")
	b.take()
	broken := errors.New("broken")
	b.storage.Fault = func(call string) error {
		if call == "Send" {
			return broken
		}
		return nil
	}
	if _, err := b.Ship(t.Context(), []string{"shop"}); !errors.Is(err, broken) {
		t.Fatalf("got %v", err)
	}
	m.Hold("0123", "old")
	_, err := b.Prune(t.Context(), nil, false)
	b.check(err)
	if held := m.Held(); len(held) != 1 || strings.HasPrefix(held[0], "0123") {
		t.Errorf("held: %q", held)
	}
	b.storage.Fault = nil
	b.ship()
	if len(m.Held()) > 0 {
		t.Errorf("held after the ship: %q", m.Held())
	}
}

// TestPropertiesTravel: what was set on a dataset is in the point, here and in
// the repository.
func TestPropertiesTravel(t *testing.T) {
	b, _ := newMarking(t, "")
	p := b.take()
	b.ship()
	b.lose("state/points/*")
	points, err := b.List(t.Context(), "")
	b.check(err)
	for _, text := range []json.RawMessage{p.Properties, points[0].Properties} {
		var got map[string]map[string]string
		if err := json.Unmarshal(text, &got); err != nil || got[b.dataset.GUID]["quota"] != "5" {
			t.Errorf("got %s, %v", text, err)
		}
	}
}

// TestTargetsOnZFS: nested datasets keep their layout below the target, and
// stay below it whatever a bucket calls them.
func TestTargetsOnZFS(t *testing.T) {
	of := func(names ...string) (out []point.Dataset) {
		for _, name := range names {
			out = append(out, point.Dataset{Driver: fs.ZFS, Dataset: name})
		}
		return out
	}
	got, err := targetsBelow("tank/back", of("pool/data", "pool/data/child", "pool/other"))
	if want := []string{"tank/back/data", "tank/back/data/child", "tank/back/other"}; err != nil || !slices.Equal(got, want) {
		t.Errorf("got %q, %v; want %q", got, err, want)
	}
	for _, bad := range []string{"pool/x/../../../y", "pool/x/./y", "pool/x//y"} {
		if got, err := targetsBelow("tank/back", of("pool/data", bad)); err == nil {
			t.Errorf("%s is restored to %q", bad, got[1])
		}
	}
}

func TestWhatAStreamCostIsKept(t *testing.T) {
	b := newBench(t, "", "main")
	b.storage.StreamNotes = []string{"2048 MiB are read"}
	b.take()
	if s := b.ship()[0].Shipped[0]; !strings.HasPrefix(s.Why, "full: ") || !strings.HasSuffix(s.Why, "; 2048 MiB are read") {
		t.Errorf("got %q", s.Why)
	}
}

// TestShipTakesWhatCameMeanwhile: a point that was taken while its dataset was
// being shipped, and whose own ship was told so, does not wait for the next run.
func TestShipTakesWhatCameMeanwhile(t *testing.T) {
	b := newBench(t, "", "main")
	b.take()
	sends := 0
	b.storage.Fault = func(call string) error {
		if call != "Send" {
			return nil
		}
		if sends++; sends > 1 {
			return nil
		}
		b.take()
		if _, err := b.Ship(t.Context(), []string{"shop"}); !errors.Is(err, advice.Busy) {
			t.Errorf("beside the other one: %v", err)
		}
		return nil
	}
	if points := b.ship(); len(points) != 2 || sends != 2 {
		t.Errorf("%d points in %d streams", len(points), sends)
	}
	if points := b.ship(); len(points) != 0 {
		t.Errorf("then %d", len(points))
	}
}

// TestRestoreChecks: what was restored is checked when that is asked for, and
// stays whatever is found; a storage that cannot is refused before the restore.
func TestRestoreChecks(t *testing.T) {
	b := newBench(t, "", "main")
	b.take()
	restore := func(to string, check bool) (string, error) {
		got, err := b.Restore(t.Context(), RestoreOptions{Point: "latest", To: "btrfs:" + b.path(to), Repository: Local, Check: check})
		if len(got) == 0 {
			return "nothing", err
		}
		return got[0].Checked, err
	}
	if got, err := restore("x", true); got != "nothing" || !errors.Is(err, advice.Usage) {
		t.Errorf("on a storage that checks nothing: got %s, %v", got, err)
	}
	finds := map[string]error{"damaged": fs.ErrDamaged, "swap": fs.ErrNotMine, "busy": fs.ErrNoSpace, "unasked": fs.ErrDamaged}
	b.Drivers[fs.Btrfs] = struct {
		*fstest.Memory
		fstest.Checking
	}{b.storage, func(d fs.Dataset) (string, error) { return "", finds[filepath.Base(d.Name)] }}
	for _, c := range []struct {
		target string
		check  bool
		want   string
		err    error
	}{
		{"sound", true, "sound", nil},
		{"damaged", true, "damaged", advice.Damaged},
		{"swap", true, "unknown", nil},
		{"busy", true, "", advice.Partial},
		{"unasked", false, "", nil},
	} {
		if got, err := restore(c.target, c.check); got != c.want || !errors.Is(err, c.err) {
			t.Errorf("%+v: got %q, %v", c, got, err)
		}
	}
}
