//go:build host

package main

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"
)

// TestForeignSnapshotsHideNothing: forty read-only snapshots as snapper keeps them
// and one subvolume that no point has. run names it once, and each line is short.
func TestForeignSnapshotsHideNothing(t *testing.T) {
	h := newHost(t, "")
	data := h.subvolume("data")
	command(t, "mkdir", filepath.Join(data, ".snapshots"))
	for i := range 40 {
		command(t, "btrfs", "subvolume", "snapshot", "-r", data, fmt.Sprintf("%s/.snapshots/%d", data, i))
	}
	missing := h.subvolume("data/the database")
	h.configure(fmt.Sprintf("[group.shop]\npaths = [%q]", data))
	line := "not covered: " + missing + ", a dataset of its own"
	_, errs, status := h.snapd("run", "shop")
	if status != 0 || errs != "warning: shop: "+line+"\n  to do: add what matters of it to paths in [group.shop]\n" {
		t.Errorf("status %d, %q", status, errs)
	}
	if _, errs, _ = h.snapd("run", "shop"); errs != "warning: shop: 1 warning as before, see snapd status\n" {
		t.Errorf("the second run says %q", errs)
	}
	if out := h.must("status"); !strings.Contains(out, "\nshop: "+line+"\n") || strings.Contains(out, ".snapshots") {
		t.Error("status does not name it, or names a snapshot")
	}
	out, _, _ := h.snapd("doctor")
	for _, says := range []string{"WARN  group shop           " + line + "\n", "do: add what matters of it to paths in [group.shop]\n", "snapshots that other programs keep below its paths, and that no point has: 40\n"} {
		if !strings.Contains(out, says) {
			t.Errorf("doctor does not say %q", says)
		}
	}
	level := 0
	for text := range strings.Lines(out) {
		if len(text) > 300 {
			t.Errorf("a line of %d bytes: %s", len(text), text)
		}
		if now := strings.Index("FAIL WARN OK", strings.Fields(text)[0]); now >= 0 && text[0] != ' ' {
			if now < level {
				t.Errorf("not the gravest first: %s", text)
			}
			level = now
		}
	}
}
