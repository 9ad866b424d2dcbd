package fstest

import (
	"encoding/binary"
	"errors"
	"os"
	"path"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"snapd/internal/fs"

	"golang.org/x/sys/unix"
)

func testLocate(t *testing.T, h Harness) {
	for _, name := range h.Names {
		t.Run(strconv.Quote(name), func(t *testing.T) {
			dir := h.NewDataset(t, name)
			m := newMaker(t, dir, 1)
			m.mkdir("sub dir\n/ü")
			m.file("sub dir\n/ü/file", nil)
			m.node("pipe", unix.S_IFIFO|0o600, 0)
			root, err := h.Driver.Locate(t.Context(), dir)
			if err != nil {
				t.Fatal(err)
			}
			if d := root.Dataset; root.Path != "." || d.Name == "" || d.GUID == "" || d.Domain == "" || d.Driver == "" {
				t.Errorf("got %+v", root)
			}
			for _, below := range []string{"sub dir\n", "sub dir\n/ü", "sub dir\n/ü/file", "pipe"} {
				place, err := h.Driver.Locate(t.Context(), path.Join(dir, below))
				if err != nil {
					t.Fatal(err)
				}
				if place.Path != below || place.Dataset != root.Dataset || len(place.Nested) > 0 {
					t.Errorf("%q: got %+v, want path %q in %+v", below, place, below, root.Dataset)
				}
			}
		})
	}
}

func testLocateNothing(t *testing.T, h Harness) {
	dir := h.NewDataset(t, "locate")
	if _, err := h.Driver.Locate(t.Context(), dir+"/nothing"); !errors.Is(err, fs.ErrNotFound) {
		t.Errorf("a path that does not exist: got %v, want ErrNotFound", err)
	}
	if _, err := h.Driver.Locate(t.Context(), "/proc"); !errors.Is(err, fs.ErrNotMine) {
		t.Errorf("/proc: got %v, want ErrNotMine", err)
	}
}

func testSnapshots(t *testing.T, h Harness) {
	dir, dataset := h.dataset(t, "snapshots")
	if got, err := h.Driver.Snapshots(t.Context(), dataset); err != nil || len(got) > 0 {
		t.Fatalf("before the first: got %v, %v", got, err)
	}
	var want []fs.Snapshot
	begin := time.Now().Add(-time.Second)
	for _, id := range []string{"c", "b", "a"} { // names do not sort as they come
		if err := os.WriteFile(dir+"/file", []byte(id), 0o600); err != nil {
			t.Fatal(err)
		}
		want = append(want, h.snapshot(t, id, dataset)...)
	}
	seen := make(map[string]bool)
	for i, s := range want {
		if s.GUID == "" || seen[s.GUID] || s.Dataset != dataset || s.Time.Before(begin) || s.Time.After(time.Now().Add(time.Second)) ||
			s.Time.Location() != time.UTC || i > 0 && s.Order <= want[i-1].Order {
			t.Errorf("snapshot %d is %+v", i, s)
		}
		seen[s.GUID] = true
	}
	got, err := h.Driver.Snapshots(t.Context(), dataset)
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("got %v, %v; want %v", got, err, want)
	}
	h.listsOurs(t, want)
	if _, err := h.Driver.Prepare(t.Context(), nameOf("b"), []fs.Dataset{dataset}); !errors.Is(err, fs.ErrExists) {
		t.Errorf("a name that is taken: got %v, want ErrExists", err)
	}
	if p, err := h.Driver.Prepare(t.Context(), "not ours", []fs.Dataset{dataset}); err == nil {
		t.Error("a name that is not ours is taken", p.Close())
	}
}

// listsOurs wants an fs.OwnLister to find these snapshots of a dataset, and no
// others of it.
func (h Harness) listsOurs(t testing.TB, want []fs.Snapshot) {
	t.Helper()
	lister, ok := h.Driver.(fs.OwnLister)
	if !ok {
		return
	}
	all, err := lister.Ours(t.Context())
	for deadline := time.Now().Add(10 * time.Second); err != nil && time.Now().Before(deadline); {
		all, err = lister.Ours(t.Context()) // another test's storage came or went
	}
	if err != nil {
		t.Fatal(err)
	}
	got := slices.DeleteFunc(all, func(s fs.Snapshot) bool { return s.Dataset.GUID != want[0].Dataset.GUID })
	if !slices.Equal(got, want) {
		t.Errorf("of all snapshots got %v; want %v", got, want)
	}
}

// testInstant has a writer that never writes the second file before the first
// is on disk: whatever the instant, the second is equal or one behind.
func testInstant(t *testing.T, h Harness) {
	dir, dataset := h.dataset(t, "instant")
	write := func(name string, n uint64) {
		f, err := os.OpenFile(dir+"/"+name, os.O_WRONLY|os.O_CREATE, 0o600)
		if err == nil {
			_, err = f.WriteAt(binary.BigEndian.AppendUint64(nil, n), 0)
			err = firstOf(err, unix.Fdatasync(int(f.Fd())), f.Close())
		}
		if err != nil {
			t.Error(err)
		}
	}
	write("first", 0)
	write("second", 0)
	var stop atomic.Bool
	var writing sync.WaitGroup
	writing.Go(func() {
		for n := uint64(1); !stop.Load(); n++ {
			write("first", n)
			write("second", n)
		}
	})
	var made []fs.Snapshot
	for _, id := range []string{"a", "b", "c", "d", "e"} {
		made = append(made, h.snapshot(t, id, dataset)...)
	}
	stop.Store(true)
	writing.Wait()
	for _, s := range made {
		seen := h.restore(t, h.NewTarget(t, "instant-"+s.GUID), link{h.stream(t, s, nil), s.GUID, ""})
		first, err1 := os.ReadFile(seen + "/first")
		second, err2 := os.ReadFile(seen + "/second")
		if err := firstOf(err1, err2); err != nil {
			t.Fatal(err)
		}
		if a, b := binary.BigEndian.Uint64(first), binary.BigEndian.Uint64(second); a != b && a != b+1 {
			t.Errorf("the first file is at %d and the second at %d", a, b)
		}
	}
}

func testSeveral(t *testing.T, h Harness) {
	var datasets []fs.Dataset
	for _, name := range []string{"one", "two", "three", "four"} {
		_, dataset := h.dataset(t, name)
		datasets = append(datasets, dataset)
	}
	made := h.snapshot(t, "s", datasets...)
	for i, s := range made {
		if s.Dataset != datasets[i] {
			t.Errorf("snapshot %d is of %v, want %v", i, s.Dataset, datasets[i])
		}
		got, err := h.Driver.Snapshots(t.Context(), datasets[i])
		if err != nil || len(got) != 1 || got[0] != s {
			t.Errorf("got %v, %v; want only %v", got, err, s)
		}
	}
}

func testPrepareClosed(t *testing.T, h Harness) {
	_, dataset := h.dataset(t, "closed")
	_, other := h.dataset(t, "closed too")
	p, err := h.Driver.Prepare(t.Context(), nameOf("p"), []fs.Dataset{dataset, other})
	if err != nil {
		t.Fatal(err)
	}
	if err := firstOf(p.Close(), p.Close()); err != nil {
		t.Errorf("close twice: %v", err)
	}
	if err := p.Take(); err == nil {
		t.Error("a closed Prepared takes a snapshot")
	}
	if got, err := h.Driver.Snapshots(t.Context(), dataset); err != nil || len(got) > 0 {
		t.Errorf("got %v, %v; want none", got, err)
	}
	h.snapshot(t, "p", dataset, other) // the name is still free
}

func testDelete(t *testing.T, h Harness) {
	_, dataset := h.dataset(t, "delete")
	first, second := h.snapshot(t, "a", dataset)[0], h.snapshot(t, "b", dataset)[0]
	imposter := first
	imposter.GUID = second.GUID
	if err := h.Driver.Delete(t.Context(), imposter); err == nil {
		t.Error("a snapshot is deleted by its name, though its GUID is another's")
	}
	foreign := first
	foreign.Name = "daily"
	if err := h.Driver.Delete(t.Context(), foreign); err == nil {
		t.Error("a snapshot is deleted whose name is not ours")
	}
	for range 2 {
		if err := h.Driver.Delete(t.Context(), first); err != nil {
			t.Errorf("delete, and again: %v", err)
		}
	}
	if got, err := h.Driver.Snapshots(t.Context(), dataset); err != nil || len(got) != 1 || got[0] != second {
		t.Errorf("got %v, %v; want only %v", got, err, second)
	}
	for range 2 {
		if err := h.Driver.Delete(t.Context(), second); err != nil {
			t.Errorf("delete the last, and again: %v", err)
		}
	}
	h.snapshot(t, "a", dataset) // the name is free again
}

func testGone(t *testing.T, h Harness) {
	_, dataset := h.dataset(t, "gone")
	dataset.GUID = "00000000-0000-4000-8000-000000000000"
	if got, err := h.Driver.Snapshots(t.Context(), dataset); !errors.Is(err, fs.ErrNotFound) {
		t.Errorf("list: got %v, %v; want ErrNotFound", got, err)
	}
	if _, err := h.Driver.Prepare(t.Context(), nameOf("g"), []fs.Dataset{dataset}); !errors.Is(err, fs.ErrNotFound) {
		t.Errorf("prepare: got %v, want ErrNotFound", err)
	}
}
