package agent

import (
	"bytes"
	"errors"
	"os"
	"slices"
	"strings"
	"testing"

	"snapd/internal/advice"
	"snapd/internal/fs"
	"snapd/internal/fs/fstest"
	"snapd/internal/inside"
	"snapd/internal/point"
)

// opens makes the storage of a bench one that opens its snapshots.
func (b *bench) opens() {
	b.Drivers[fs.Btrfs] = struct {
		*fstest.Memory
		*fstest.Opening
	}{b.storage, fstest.NewOpening(b.storage)}
}

func (b *bench) cat(where string) string {
	b.t.Helper()
	var out bytes.Buffer
	b.check(b.Cat(b.t.Context(), where, &out))
	return out.String()
}

// TestSplitInside: a point may be latest:GROUP, and a path may have colons.
func TestSplitInside(t *testing.T) {
	for where, want := range map[string][2]string{
		"06ab":                     {"06ab", ""},
		"06ab:":                    {"06ab", ""},
		"06ab:/srv/a:b":            {"06ab", "/srv/a:b"},
		"latest":                   {"latest", ""},
		"latest:shop":              {"latest:shop", ""},
		"latest:shop:/srv/x y":     {"latest:shop", "/srv/x y"},
		"latest:shop:file":         {"latest:shop", "file"},
		"latest:/srv/x":            {"latest", "/srv/x"},
		"latest:/srv/x:y":          {"latest", "/srv/x:y"},
		"latest::file":             {"latest", "file"},
		"06ab:tank/data/x":         {"06ab", "tank/data/x"},
		"latest:shop:vg/data/x\ny": {"latest:shop", "vg/data/x\ny"},
	} {
		wanted, path, _ := splitInside(where)
		if got := [2]string{wanted, path}; got != want {
			t.Errorf("%q: got %q, want %q", where, got, want)
		}
	}
}

// TestPlaceInside: a path of the host is found by what the point says of it, in the
// dataset that lay deepest, also through a bind mount of a part of one.
func TestPlaceInside(t *testing.T) {
	b := newBench(t, "")
	item := func(kind, source, target, origin, path string) point.Item {
		return point.Item{Kind: kind, Source: source, Target: target, Place: point.Place{Origin: origin, Path: path}}
	}
	p := point.Point{
		ID: "06ab",
		Datasets: []point.Dataset{
			{Driver: fs.Btrfs, Dataset: "/srv", Origin: "1"},
			{Driver: fs.LVM, Dataset: "vg/db", Origin: "2"},
			{Driver: fs.ZFS, Dataset: "tank/www", Origin: "3"},
		},
		Items: []point.Item{
			item(point.ItemBind, "/srv/db/main", "/var/lib/db", "2", "main"),
			item(point.ItemBind, "/mnt/bound/x", "/x", "3", "deep/in/y"),
			item(point.ItemPath, "/data/www", "/www", "3", "www"),
		},
	}
	for name, want := range map[string][2]string{
		"/srv":           {"1", "."},
		"/srv/a/../b":    {"1", "b"},
		"/srv/dbx":       {"1", "dbx"},
		"/srv/db":        {"2", "."},
		"/srv/db/main/f": {"2", "main/f"},
		"/mnt/bound/x/z": {"3", "deep/in/y/z"},
		"/data/www/f":    {"3", "www/f"},
		"/data":          {"3", "."},
		"/www/f":         {"3", "www/f"},
		"vg/db":          {"2", "."},
		"vg/db/f":        {"2", "f"},
		"tank/www/a b\n": {"3", "a b\n"},
		"/elsewhere":     {"", ""},
		"f":              {"", ""},
	} {
		d, path := b.placeInside(t.Context(), p, name)
		got := [2]string{"", path}
		if d != nil {
			got[0] = d.Origin
		}
		if got != want {
			t.Errorf("%q: got %q, want %q", name, got, want)
		}
	}
	p.Datasets = p.Datasets[1:2]
	if d, path := b.placeInside(t.Context(), p, "../a"); d == nil || path != "a" {
		t.Errorf("relative to the only dataset: %v, %q", d, path)
	}
}

// TestListAndCat: what the point has is read, not what is there now, and what it has
// not is said with the nearest folder that it has.
func TestListAndCat(t *testing.T) {
	b := newBench(t, "")
	b.opens()
	b.check(os.MkdirAll(b.path("data/sub dir/deep"), 0o755))
	b.check(os.Mkdir(b.path("data/other dataset"), 0o111))
	b.write("sub dir/fi\x1ble\nx", "as it was")
	b.check(os.Symlink("/etc", b.path("data/out")))
	b.check(os.Symlink("sub dir", b.path("data/in")))
	p := b.take()
	b.check(os.Chmod(b.path("data/other dataset"), 0o755))
	b.write("sub dir/fi\x1ble\nx", "as it is")
	b.take()
	id := string(p.ID)
	for _, where := range []string{id + ":" + b.path("data/sub dir/fi\x1ble\nx"), id + ":sub dir/fi\x1ble\nx", id + ":in/fi\x1ble\nx"} {
		if got := b.cat(where); got != "as it was" {
			t.Errorf("%q has %q", where, got)
		}
	}
	if got := b.cat("latest:shop:sub dir/fi\x1ble\nx"); got != "as it is" {
		t.Errorf("the latest has %q", got)
	}
	l, err := b.ListInside(t.Context(), id)
	b.check(err)
	var got []string
	for _, e := range l.Entries {
		got = append(got, e.Name+" "+e.Kind+" "+e.Target)
	}
	if want := "in link sub dir|other dataset absent |out link /etc|sub dir folder "; strings.Join(got, "|") != want || l.Path != b.path("data") {
		t.Errorf("got %q of %s", got, l.Path)
	}
	for where, says := range map[string][2]string{
		":sub dir/none/x":   {"/sub dir/none/x is not in point " + id + ": there is nothing", "/sub dir"},
		":out/passwd":       {"out is a symbolic link to /etc, which is not below this dataset", "ls " + id + ":" + b.path("data")},
		":other dataset/x":  {"other dataset is a dataset of its own, and not in this point", "ls "},
		":/elsewhere":       {"/elsewhere is not in point " + id, b.path("data")},
		":in/fi\x1ble\nx/y": {"is not in point", b.path("data/in/fi\x1ble\nx")},
	} {
		_, err := b.ListInside(t.Context(), id+where)
		if err == nil || !strings.Contains(err.Error(), says[0]) || !strings.Contains(advice.Of(err), says[1]) {
			t.Errorf("%q: got %v (%s)", where, err, advice.Of(err))
		}
	}
	if err := b.Cat(t.Context(), id+":sub dir", &bytes.Buffer{}); err == nil || !strings.Contains(err.Error(), "is a folder") {
		t.Errorf("cat of a folder: %v", err)
	}
	if held := b.storage.Leftovers(b.dir); len(held) > 0 {
		t.Errorf("left over: %q", held)
	}
}

// TestOnlyElsewhere: a point whose snapshot is gone here, and one that only a
// repository has, are said to be there.
func TestOnlyElsewhere(t *testing.T) {
	b := newBench(t, "", "main")
	b.opens()
	b.write("file", "text")
	p := b.take()
	b.ship()
	b.storage.Destroy(func(int) bool { return false })
	if _, err := b.ListInside(t.Context(), string(p.ID)); !errors.Is(err, NotHere) {
		t.Errorf("its snapshot is gone: got %v", err)
	}
	b.check(os.RemoveAll(b.path("state/points")))
	b.check(os.Mkdir(b.path("state/points"), 0o700))
	again := b.clone()
	again.opens()
	if _, err := again.ListInside(t.Context(), "latest"); !errors.Is(err, NotHere) || !strings.Contains(err.Error(), "only a repository has it") {
		t.Errorf("only the repository has it: got %v", err)
	}
	if _, err := b.ListInside(t.Context(), "zzzz"); !errors.Is(err, ErrNotThere) {
		t.Errorf("there is none: got %v", err)
	}
}

// TestCopyInside: several things go into a folder, one to a new name; what would meet
// is refused before anything is copied, and what has gone before a failure is said.
func TestCopyInside(t *testing.T) {
	b := newBench(t, "")
	b.opens()
	b.check(os.MkdirAll(b.path("data/sub/same"), 0o755))
	b.write("sub/file one", "one")
	b.write("same", "two")
	b.check(os.Mkdir(b.path("data/other dataset"), 0o111))
	id := string(b.take().ID)
	b.check(os.Chmod(b.path("data/other dataset"), 0o755))
	b.check(os.Mkdir(b.path("to"), 0o755))
	places := []string{id + ":sub", id + ":" + b.path("data/same")}
	got, err := b.CopyInside(t.Context(), places, b.path("to"), false)
	b.check(err)
	if len(got) != 2 || got[0].To != b.path("to/sub") || got[0].Files != 1 || got[1].From != b.path("data/same") {
		t.Errorf("got %+v", got)
	}
	fstest.Compare(t, b.path("data/sub"), b.path("to/sub"))
	if _, err := b.CopyInside(t.Context(), places, b.path("to"), false); !errors.Is(err, inside.ErrExists) {
		t.Errorf("again: %v", err)
	}
	got, err = b.CopyInside(t.Context(), []string{id + ":"}, b.path("all"), false)
	b.check(err)
	if !slices.Equal(got[0].Absent, []string{"other dataset"}) {
		t.Errorf("absent is %q", got[0].Absent)
	}
	for _, bad := range [][]string{{id + ":same", id + ":sub/same"}, {id + ":same", "zzzz:x"}} {
		if got, err := b.CopyInside(t.Context(), bad, b.path("to"), true); err == nil || len(got) > 0 {
			t.Errorf("%q: got %+v, %v", bad, got, err)
		}
	}
	if _, err := b.CopyInside(t.Context(), places, b.path("to/none"), false); !errors.Is(err, advice.Usage) {
		t.Errorf("several to a name: %v", err)
	}
	got, err = b.CopyInside(t.Context(), []string{id + ":sub/file one", id + ":none"}, b.path("to"), false)
	if !errors.Is(err, advice.Partial) || len(got) != 1 {
		t.Errorf("the second is not there: got %+v, %v", got, err)
	}
}

// TestMountInsideRefuses: what is in a folder is not hidden, and a part of a dataset is
// not mounted.
func TestMountInsideRefuses(t *testing.T) {
	b := newBench(t, "")
	b.opens()
	b.write("file", "text")
	id := string(b.take().ID)
	empty := t.TempDir()
	for where, dir := range map[string]string{id: b.path("data"), id + ":file": empty, id + ":none": empty} {
		if _, err := b.MountInside(t.Context(), where, dir); !errors.Is(err, advice.Usage) || advice.Of(err) == "" {
			t.Errorf("%s at %s: %v (%s)", where, dir, err, advice.Of(err))
		}
	}
	if _, err := b.MountInside(t.Context(), id, b.path("none")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a folder that is not there: %v", err)
	}
	if _, err := b.MountInside(t.Context(), id, empty); !errors.Is(err, errors.ErrUnsupported) { // as far as memory gets
		t.Errorf("got %v", err)
	}
}

// TestPruneLeavesWhatIsOpen: a snapshot that is in use stays, the others go, and it
// goes later; that is no failure.
func TestPruneLeavesWhatIsOpen(t *testing.T) {
	b := newBench(t, "keep-local = \"1s\"\n", "main")
	b.opens()
	var taken []point.Point
	for _, text := range []string{"a", "b", "c", "d", "e"} {
		b.write("file", text)
		taken = append(taken, b.take())
		b.ship()
	}
	o, err := b.openInside(t.Context(), taken[1], &taken[1].Datasets[0])
	b.check(err)
	before := b.snaps()
	pruned := b.prune()
	if !slices.ContainsFunc(pruned.Keep, func(v Verdict) bool { return v.ID == taken[1].ID && strings.Contains(v.Reason, "in use") }) {
		t.Errorf("kept are %+v", pruned.Keep)
	}
	with := b.snaps()
	b.check(o.Close())
	b.prune()
	if with >= before || b.snaps() != with-1 {
		t.Errorf("snapshots: %d, with one open %d, then %d", before, with, b.snaps())
	}
}

// TestDiffInside: between two points, and with now; the paths are those of the host.
func TestDiffInside(t *testing.T) {
	b := newBench(t, "")
	b.opens()
	b.check(os.Mkdir(b.path("data/sub"), 0o755))
	b.write("sub/file", "one\n")
	b.write("stays", "x")
	first := string(b.take().ID)
	b.write("sub/file", "two and\n")
	second := string(b.take().ID)
	b.write("new", "n")
	diff := func(where, to string) (got []string) {
		t.Helper()
		b.check(b.DiffInside(t.Context(), where, to, true, func(d inside.Difference) error {
			got = append(got, d.What+" "+d.Path+" "+d.Text)
			return nil
		}))
		return got
	}
	changed := "changed " + b.path("data/sub/file") + " "
	if got := diff(first, second); len(got) != 1 || !strings.HasPrefix(got[0], changed) || !strings.Contains(got[0], "-one\n+two and\n") {
		t.Errorf("between points: %q", got)
	}
	if got := diff(second+":sub", Now); len(got) > 0 {
		t.Errorf("of a folder, with now: %q", got)
	}
	if got := diff(first, Now); len(got) != 2 || !strings.HasPrefix(got[0], "added "+b.path("data/new")) || !strings.HasPrefix(got[1], changed) {
		t.Errorf("with now: %q", got)
	}
	b.check(b.storage.Remove(b.dataset.GUID, false))
	if err := b.DiffInside(t.Context(), first, Now, false, nil); err == nil || !strings.Contains(err.Error(), "is not at "+b.path("data")+" now") {
		t.Errorf("what is gone now: %v", err)
	}
}
