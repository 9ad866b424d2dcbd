//go:build guest

package lvm

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"snapd/internal/fs"
	"snapd/internal/fs/fstest"
)

// TestOpen: the contract on ext4 and XFS, what is shown at a directory, a snapshot that
// is in use, and what a process leaves that was killed while it had one open.
func TestOpen(t *testing.T) {
	vg := newGroup(t, 3<<30)
	newPool(t, vg, "pool", 2<<30)
	for _, kind := range []string{"ext4", "xfs"} {
		t.Run(kind, func(t *testing.T) { fstest.RunSome(t, harness(t, vg, "pool", kind), "open") })
	}
	h := harness(t, vg, "pool", "ext4")
	d := h.Driver.(*Driver)
	dir := h.NewDataset(t, "shown")
	if err := os.WriteFile(filepath.Join(dir, "file"), []byte("text"), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.Create(filepath.Join(dir, "deleted while open"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteString("an orphan of ext4"); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(f.Name()); err != nil {
		t.Fatal(err)
	}
	place, err := d.Locate(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	s := take(t, d, "o", place.Dataset)[0]
	o, err := d.Open(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Delete(t.Context(), s); !errors.Is(err, fs.ErrBusy) {
		t.Errorf("delete what is open: got %v, want ErrBusy", err)
	}
	fstest.TryAttach(t, o, "file")
	active := func() string {
		return command(t, "lvs", "--noheadings", "-o", "lv_active", vg+"/"+fs.LVMSnapshotName(s.Name, s.Dataset.GUID))
	}
	all, err := d.list(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	v, err := all.snapshot(s)
	if err != nil {
		t.Fatal(err)
	}
	if !v.active() { // an unmounted one stays so until it is swept, as that of a killed process
		command(t, "lvchange", "-ay", "-K", v.full())
	}
	if _, err := d.Sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := strings.TrimSpace(active()); got != "" {
		t.Errorf("it is still %s after the next sweep", got)
	}
	if err := d.Delete(t.Context(), s); err != nil {
		t.Errorf("delete: %v", err)
	}
}
