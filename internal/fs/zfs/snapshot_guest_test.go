//go:build guest

package zfs

import (
	"errors"
	"os"
	"slices"
	"strings"
	"testing"

	"snapd/internal/advice"
	"snapd/internal/fs"
)

func TestNamesThatAreTooLong(t *testing.T) {
	pool := newPool(t, 256<<20)
	name := fs.SnapshotName(testTime, "01jd8k2m5x7qf3za")
	fits := nameMax - len("@") - len(name) - len(pool+"/")
	for length, ok := range map[int]bool{fits: true, fits + 1: false} {
		dataset := pool + "/" + strings.Repeat("x", length)
		sh(t, "zfs", "create", dataset)
		place, err := New().Locate(t.Context(), mountpoint(t, dataset))
		if err != nil {
			t.Fatal(err)
		}
		p, err := New().Prepare(t.Context(), name, []fs.Dataset{place.Dataset})
		if (err == nil) != ok {
			t.Errorf("a name of %d bytes: got %v", len(dataset), err)
		}
		if err != nil {
			if !strings.Contains(advice.Of(err), "zfs rename") {
				t.Errorf("it does not say what to do: %v", err)
			}
			continue
		}
		if err := firstOf(p.Take(), p.Close()); err != nil {
			t.Error(err)
		}
		all, err := New().Snapshots(t.Context(), place.Dataset)
		if err != nil || len(all) != 1 {
			t.Fatalf("got %v, %v", all, err)
		}
		if err := firstOf(New().Protect(t.Context(), "0a", all[0], nil), New().Shipped(t.Context(), "0a", all[0])); err != nil {
			t.Errorf("hold and bookmark of the longest name: %v", err)
		}
	}
}

func TestSeveralPools(t *testing.T) {
	var datasets []fs.Dataset
	for range 3 {
		pool := newPool(t, 128<<20)
		sh(t, "zfs", "create", pool+"/a")
		datasets = append(datasets, located(t, mountpoint(t, pool+"/a")))
	}
	made := take(t, "a", datasets...)
	if len(made) != 3 || datasets[0].Domain == datasets[1].Domain {
		t.Errorf("got %v of %v", made, datasets)
	}
}

// TestRenamed: a dataset that was renamed is the same one.
func TestRenamed(t *testing.T) {
	pool := newPool(t, 256<<20)
	sh(t, "zfs", "create", pool+"/a")
	dataset := located(t, mountpoint(t, pool+"/a"))
	first := take(t, "a", dataset)[0]
	sh(t, "zfs", "rename", pool+"/a", pool+"/b c")
	sh(t, "zfs", "create", pool+"/a") // another takes its name
	second := take(t, "b", dataset)[0]
	all, err := New().Snapshots(t.Context(), dataset)
	if err != nil || !slices.Equal(all, []fs.Snapshot{first, second}) {
		t.Errorf("got %v, %v", all, err)
	}
	if !there(t, pool+"/b c@"+second.Name) || there(t, pool+"/a@"+second.Name) {
		t.Error("the snapshot is of the dataset that took the name")
	}
	if err := New().Delete(t.Context(), first); err != nil || there(t, pool+"/b c@"+first.Name) {
		t.Errorf("delete: %v", err)
	}
}

// TestNested: datasets below a path are named, by where they are mounted.
func TestNested(t *testing.T) {
	pool := newPool(t, 256<<20)
	sh(t, "zfs", "create", pool+"/a")
	sh(t, "zfs", "create", pool+"/a/child")
	sh(t, "zfs", "create", pool+"/a/child/deep er")
	dir := mountpoint(t, pool+"/a")
	place, err := New().Locate(t.Context(), dir)
	if err != nil || !slices.Equal(place.Nested, []string{dir + "/child", dir + "/child/deep er"}) {
		t.Errorf("got %+v, %v", place, err)
	}
	if err := os.Mkdir(dir+"/plain", 0o755); err != nil {
		t.Fatal(err)
	}
	if place, err := New().Locate(t.Context(), dir+"/plain"); err != nil || len(place.Nested) > 0 || place.Path != "plain" {
		t.Errorf("got %+v, %v", place, err)
	}
	if _, err := New().Locate(t.Context(), "/"); !errors.Is(err, fs.ErrNotMine) {
		t.Errorf("/: got %v", err)
	}
	bind := t.TempDir()
	sh(t, "mount", "--bind", dir+"/plain", bind)
	defer sh(t, "umount", bind)
	if place, err := New().Locate(t.Context(), bind); err != nil || place.Path != "plain" || place.Dataset.Name != pool+"/a" {
		t.Errorf("through a bind mount: got %+v, %v", place, err)
	}
}
