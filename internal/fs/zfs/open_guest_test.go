//go:build guest

package zfs

import (
	"errors"
	"os"
	"testing"

	"snapd/internal/fs"
	"snapd/internal/fs/fstest"
)

// TestOpen: the contract, what is shown at a directory, a snapshot that is in use, and
// a volume.
func TestOpen(t *testing.T) {
	pool := newPool(t, 512<<20)
	fstest.RunSome(t, harness(t, pool), "open")
	sh(t, "zfs", "create", pool+"/with space")
	dir := mountpoint(t, pool+"/with space")
	if err := os.WriteFile(dir+"/file", []byte("text"), 0o600); err != nil {
		t.Fatal(err)
	}
	s := take(t, "a", located(t, dir))[0]
	o, err := New().Open(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	if err := New().Delete(t.Context(), s); !errors.Is(err, fs.ErrBusy) {
		t.Errorf("delete what is open: got %v, want ErrBusy", err)
	}
	fstest.TryAttach(t, o, "file")
	if err := New().Delete(t.Context(), s); err != nil {
		t.Errorf("delete: %v", err)
	}
	sh(t, "zfs", "create", "-V", "16M", pool+"/volume")
	deviceOf(t, pool+"/volume")
	d, err := describe(t.Context(), pool+"/volume")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := New().Open(t.Context(), take(t, "v", d)[0]); !errors.Is(err, fs.ErrNotMine) {
		t.Errorf("a volume: got %v, want ErrNotMine", err)
	}
}
