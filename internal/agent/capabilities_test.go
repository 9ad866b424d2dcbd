package agent

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"

	"snapd/internal/fs"
	"snapd/internal/point"
	"snapd/internal/ship"
)

// marking is a storage with bookmarks and holds.
type marking struct {
	*storage
	format string
	marks  []fs.Snapshot
	held   []string // purpose and guid
	broken error    // of Send
}

func newMarking(t *testing.T, group string) (*bench, *marking) {
	t.Helper()
	b := newBench(t, group, "main")
	m := &marking{storage: b.storage, format: "btrfs-2"}
	b.Drivers[fs.Btrfs] = m
	return b, m
}

func (m *marking) Bases(context.Context, fs.Dataset) ([]fs.Snapshot, error) {
	return append(slices.Clone(m.marks), m.snaps...), nil
}

func (m *marking) Bookmarks(context.Context, fs.Dataset) (map[string]bool, error) {
	out := map[string]bool{}
	for _, s := range m.marks {
		out[s.GUID] = true
	}
	return out, nil
}

func (m *marking) Protect(_ context.Context, purpose string, s fs.Snapshot, base *fs.Snapshot) error {
	m.held = append(m.held, purpose+" "+s.GUID)
	if base != nil {
		m.held = append(m.held, purpose+" "+base.GUID)
	}
	return nil
}

func (m *marking) Shipped(_ context.Context, purpose string, s fs.Snapshot) error {
	m.marks = append(m.marks, s)
	m.held = slices.DeleteFunc(m.held, func(h string) bool { return strings.HasPrefix(h, purpose+" ") })
	return nil
}

func (m *marking) Tidy(_ context.Context, _ fs.Dataset, needed func(string) bool, held func(purpose, guid string) bool) ([]string, error) {
	m.marks = slices.DeleteFunc(m.marks, func(s fs.Snapshot) bool { return !needed(s.GUID) })
	m.held = slices.DeleteFunc(m.held, func(h string) bool {
		purpose, guid, _ := strings.Cut(h, " ")
		return !held(purpose, guid)
	})
	return nil, nil
}

func (m *marking) Format(context.Context, fs.Snapshot) (string, bool, error) {
	return m.format, true, nil
}

func (m *marking) Send(ctx context.Context, s fs.Snapshot, base *fs.Snapshot) (io.ReadCloser, error) {
	if m.broken != nil {
		return nil, m.broken
	}
	return m.storage.Send(ctx, s, base)
}

func (m *marking) Properties(_ context.Context, datasets []fs.Dataset) (map[string]map[string]string, error) {
	return map[string]map[string]string{datasets[0].GUID: {"quota": "5"}}, nil
}

// TestBookmarksAreBases: with bookmarks no snapshot has to stay as a base, and
// increments go on; a bookmark goes when no repository has its stream.
func TestBookmarksAreBases(t *testing.T) {
	b, m := newMarking(t, "keep-local = \"1h\"\nkeep = \"2 last\"")
	for range 4 {
		b.take()
		if p := b.ship(); len(p) != 1 || len(m.held) > 0 {
			t.Fatalf("shipped %+v, held %q", p, m.held)
		}
	}
	b.now = b.now.Add(day)
	_, err := b.Prune(t.Context(), nil, false)
	b.check(err)
	if len(m.snaps) != 1 {
		t.Errorf("%d snapshots stay, want only the newest", len(m.snaps))
	}
	for _, s := range m.marks {
		if _, there := b.index("main").BySnapshot(s.Dataset.GUID, s.GUID); !there {
			t.Errorf("the bookmark of %s stays, and no repository has its stream", s.Name)
		}
	}
	m.snaps = nil // destroyed by hand
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
	m.snaps, m.marks = m.snaps[:1], m.marks[:1]
	b.take()
	if s := b.ship()[0].Shipped[0]; s.Base == nil || !strings.Contains(s.Why, "1 newer base is gone") {
		t.Errorf("got %+v", s)
	}
	m.snaps, m.marks = nil, nil
	b.take()
	if s := b.ship()[0].Shipped[0]; s.Base != nil || !strings.Contains(s.Why, "full") || !strings.Contains(s.Why, "3 newer bases are gone") {
		t.Errorf("got %+v", s)
	}
}

// TestOtherFormatIsFull: a chain keeps its format; a stream of another begins
// a new one and says so.
func TestOtherFormatIsFull(t *testing.T) {
	b, m := newMarking(t, "")
	b.take()
	b.ship()
	m.format = "btrfs-1"
	b.take()
	if s := b.ship()[0].Shipped[0]; s.Base != nil || !strings.Contains(s.Why, ship.ErrOtherFormat.Error()) {
		t.Errorf("got %+v", s)
	}
}

// TestHoldsOutliveAFailure: what is to be continued stays held, through a
// prune too; what belongs to no ship is let go.
func TestHoldsOutliveAFailure(t *testing.T) {
	b, m := newMarking(t, "")
	b.take()
	m.broken = errors.New("broken")
	if _, err := b.Ship(t.Context(), []string{"shop"}); !errors.Is(err, m.broken) {
		t.Fatalf("got %v", err)
	}
	m.held = append(m.held, "0123 old")
	_, err := b.Prune(t.Context(), nil, false)
	b.check(err)
	if len(m.held) != 1 || strings.HasPrefix(m.held[0], "0123") {
		t.Errorf("held: %q", m.held)
	}
	m.broken = nil
	b.ship()
	if len(m.held) > 0 {
		t.Errorf("held after the ship: %q", m.held)
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
		if err := json.Unmarshal(text, &got); err != nil || got["origin-1"]["quota"] != "5" {
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

// costly is a storage whose streams say what it cost to make them.
type costly struct{ *storage }

type costlyStream struct{ io.ReadCloser }

func (costlyStream) Notes() []string { return []string{"2048 MiB are read"} }

func (s costly) Send(ctx context.Context, snap fs.Snapshot, base *fs.Snapshot) (io.ReadCloser, error) {
	r, err := s.storage.Send(ctx, snap, base)
	return costlyStream{r}, err
}

func TestWhatAStreamCostIsKept(t *testing.T) {
	b := newBench(t, "", "main")
	b.Drivers[fs.Btrfs] = costly{b.storage}
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
	b.storage.sending = func() {
		if sends++; sends > 1 {
			return
		}
		b.take()
		if _, err := b.Ship(t.Context(), []string{"shop"}); !errors.Is(err, ErrBusy) {
			t.Errorf("beside the other one: %v", err)
		}
	}
	if points := b.ship(); len(points) != 2 || sends != 2 {
		t.Errorf("%d points in %d streams", len(points), sends)
	}
	if points := b.ship(); len(points) != 0 {
		t.Errorf("then %d", len(points))
	}
}

// checked is a storage whose restores can be checked.
type checked struct {
	*storage
	finds map[string]error // by target
}

func (c checked) Receive(_ context.Context, target string, _ fs.Placement) (fs.Receiver, error) {
	return &built{target: target}, nil
}

func (c checked) CheckFilesystem(_ context.Context, d fs.Dataset) (string, error) {
	return "", c.finds[d.Name]
}

// built receives anything.
type built struct{ target string }

func (b *built) Apply(_ context.Context, stream io.Reader, _, _ string) error {
	_, err := io.Copy(io.Discard, stream)
	return err
}

func (b *built) Finish(context.Context) (fs.Dataset, error) {
	return fs.Dataset{Driver: fs.Btrfs, Name: b.target}, nil
}

func (b *built) Close() error { return nil }

// TestRestoreChecks: what was restored is checked when that is asked for, and
// stays whatever is found; a storage that cannot is refused before the restore.
func TestRestoreChecks(t *testing.T) {
	b := newBench(t, "", "main")
	b.take()
	restore := func(to string, check bool) (string, error) {
		got, err := b.Restore(t.Context(), RestoreOptions{Point: "latest", To: "btrfs:" + to, Repository: Local, Check: check})
		if len(got) == 0 {
			return "nothing", err
		}
		return got[0].Checked, err
	}
	if got, err := restore("/x", true); got != "nothing" || !errors.Is(err, ErrUsage) {
		t.Errorf("on a storage that checks nothing: got %s, %v", got, err)
	}
	b.Drivers[fs.Btrfs] = checked{b.storage, map[string]error{
		"/damaged": fs.ErrDamaged, "/swap": fs.ErrNotMine, "/busy": fs.ErrNoSpace,
	}}
	for _, c := range []struct {
		target string
		check  bool
		want   string
		err    error
	}{
		{"/sound", true, "sound", nil},
		{"/damaged", true, "damaged", ErrDamaged},
		{"/swap", true, "unknown", nil},
		{"/busy", true, "", ErrPartial},
		{"/damaged", false, "", nil},
	} {
		if got, err := restore(c.target, c.check); got != c.want || !errors.Is(err, c.err) {
			t.Errorf("%+v: got %q, %v", c, got, err)
		}
	}
}
