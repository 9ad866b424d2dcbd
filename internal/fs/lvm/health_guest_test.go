//go:build guest

package lvm

import (
	"strings"
	"testing"

	"snapd/internal/fs"
)

// TestHealth on a thin volume whose filesystem finds an error.
func TestHealth(t *testing.T) {
	vg := newGroup(t, 1<<30)
	newPool(t, vg, "po-ol", 512<<20)
	node := newVolume(t, vg, "po-ol", "data", 128<<20)
	dir := t.TempDir() + "/m nt"
	mkfs(t, "ext4", node, dir)
	d := newDriver(t)
	place, err := d.Locate(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	told := func() string {
		t.Helper()
		found, err := d.Health(t.Context(), []fs.Dataset{place.Dataset, place.Dataset})
		if err != nil {
			t.Fatal(err)
		}
		var out []string
		for _, f := range found {
			out = append(out, f.On+": "+f.What)
		}
		return strings.Join(out, "; ")
	}
	if got := told(); got != "" {
		t.Fatalf("of a sound volume: %s", got)
	}
	dm := strings.TrimPrefix(realNode(t, node), "/dev/")
	command(t, "sh", "-c", "echo test > /sys/fs/ext4/"+dm+"/trigger_fs_error")
	if got := told(); !strings.Contains(got, "ext4 at "+dir+": the filesystem has found errors in itself (1)") {
		t.Errorf("after an error: %s", got)
	}
	command(t, "mount", "-o", "remount,ro", dir)
	if got := told(); !strings.Contains(got, "read-only") {
		t.Errorf("read-only: %s", got)
	}
}
