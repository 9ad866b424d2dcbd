//go:build host

package btrfs

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"snapd/internal/fs"
	"snapd/internal/fs/fstest"
)

func TestOpen(t *testing.T) { fstest.RunSome(t, harness(newFilesystem(t, 1<<30)), "open") }

// TestOpenNested: what the snapshot has of a subvolume below is named as absent, an
// empty folder is not; and what is open, or mounted, keeps the snapshot from being deleted.
func TestOpenNested(t *testing.T) {
	mnt := newFilesystem(t, 1<<30)
	dir := filepath.Join(mnt, "data")
	command(t, "btrfs", "subvolume", "create", dir)
	command(t, "btrfs", "subvolume", "create", dir+"/below")
	if err := os.Mkdir(dir+"/empty", 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(dir+"/file", []byte("text"), 0o600); err != nil {
		t.Fatal(err)
	}
	h := harness(mnt)
	place, err := h.Driver.Locate(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	made := take(t, "n", place.Dataset)
	o, err := New().Open(t.Context(), made[0])
	if err != nil {
		t.Fatal(err)
	}
	defer o.Close()
	for name, want := range map[string]bool{"below": true, "empty": false, "file": false} {
		info, err := o.Root().Lstat(name)
		if err != nil {
			t.Fatal(err)
		}
		if o.Absent(info) != want {
			t.Errorf("%s: absent is %v, want %v", name, !want, want)
		}
	}
	if err := New().Delete(t.Context(), made[0]); !errors.Is(err, fs.ErrBusy) {
		t.Errorf("delete what is open: got %v, want ErrBusy", err)
	}
	shown, err := os.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer shown.Close()
	if err := errors.Join(o.Attach(shown), o.Close()); err != nil {
		t.Fatal(err)
	}
	if err := New().Delete(t.Context(), made[0]); !errors.Is(err, fs.ErrBusy) || !strings.Contains(err.Error(), "mounted at "+shown.Name()) {
		t.Errorf("delete what is mounted: got %v, want ErrBusy", err)
	}
	command(t, "umount", shown.Name())
	if o, err = New().Open(t.Context(), made[0]); err != nil {
		t.Fatal(err)
	}
	fstest.TryAttach(t, o, "file")
	if err := New().Delete(t.Context(), made[0]); err != nil {
		t.Errorf("delete: %v", err)
	}
}
