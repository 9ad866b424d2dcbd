package vmtest

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"
)

func TestBrokenEntriesAreMadeAgain(t *testing.T) {
	write := func(t *testing.T, path, text string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, damage := range []struct {
		name string
		do   func(t *testing.T, dir string)
		made int // times, in all
	}{
		{"nothing", func(*testing.T, string) {}, 1},
		{"touched only", func(t *testing.T, dir string) {
			if err := os.Chtimes(filepath.Join(dir, "disk"), time.Time{}, time.Unix(1, 0)); err != nil {
				t.Fatal(err)
			}
		}, 1},
		{"overwritten", func(t *testing.T, dir string) { write(t, filepath.Join(dir, "disk"), "rubbish!") }, 2},
		{"cut short", func(t *testing.T, dir string) { write(t, filepath.Join(dir, "disk"), "con") }, 2},
		{"file missing", func(t *testing.T, dir string) { _ = os.Remove(filepath.Join(dir, "disk")) }, 2},
		{"unfinished", func(t *testing.T, dir string) { _ = os.Remove(filepath.Join(dir, inventoryName)) }, 2},
		{"inventory broken", func(t *testing.T, dir string) { write(t, filepath.Join(dir, inventoryName), "{") }, 2},
		{"inventory empty", func(t *testing.T, dir string) { write(t, filepath.Join(dir, inventoryName), "{}") }, 2},
		{"removed", func(t *testing.T, dir string) { _ = os.RemoveAll(dir) }, 2},
	} {
		t.Run(damage.name, func(t *testing.T) {
			c := cache{dir: t.TempDir()}
			path := filepath.Join(c.dir, "entry")
			made := 0
			ensure := func() {
				t.Helper()
				err := c.entry(t.Context(), path, func(_ context.Context, dir string) error {
					made++
					return os.WriteFile(filepath.Join(dir, "disk"), []byte("contents"), 0o600)
				})
				if err != nil {
					t.Fatal(err)
				}
			}
			ensure()
			damage.do(t, path)
			ensure()
			if made != damage.made {
				t.Errorf("made %d times, want %d", made, damage.made)
			}
			if text, err := os.ReadFile(filepath.Join(path, "disk")); err != nil || string(text) != "contents" {
				t.Errorf("got %q, %v", text, err)
			}
		})
	}
}

func TestFailedBuildLeavesNothing(t *testing.T) {
	c := cache{dir: t.TempDir()}
	path := filepath.Join(c.dir, "entry")
	want := errors.New("no space")
	err := c.entry(t.Context(), path, func(_ context.Context, dir string) error {
		if err := os.WriteFile(filepath.Join(dir, "half"), nil, 0o600); err != nil {
			return err
		}
		return want
	})
	if !errors.Is(err, want) {
		t.Errorf("got %v, want %v", err, want)
	}
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the entry is there: %v", err)
	}
	if left, _ := filepath.Glob(filepath.Join(c.dir, ".part-*")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

// A damage that size and time do not show is found when the guest does not
// start and the entry is read whole.
func TestHiddenDamageIsDiscarded(t *testing.T) {
	c := cache{dir: t.TempDir()}
	path := filepath.Join(c.dir, "entry")
	disk := filepath.Join(path, "disk")
	if err := c.entry(t.Context(), path, func(_ context.Context, dir string) error {
		return os.WriteFile(filepath.Join(dir, "disk"), []byte("contents"), 0o600)
	}); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(disk)
	if err != nil {
		t.Fatal(err)
	}
	if c.discardDamaged(path) {
		t.Error("a sound entry was discarded")
	}
	if err := os.WriteFile(disk, []byte("Contents"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chtimes(disk, time.Time{}, info.ModTime()); err != nil {
		t.Fatal(err)
	}
	if err := checkInventory(path); err != nil {
		t.Errorf("the quick look sees more than it can: %v", err)
	}
	if !c.discardDamaged(path) || checkInventory(path) == nil {
		t.Error("the damage was not found")
	}
}
