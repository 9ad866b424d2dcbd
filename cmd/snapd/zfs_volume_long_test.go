//go:build guest && long

package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"snapd/internal/point"
)

// device is that of a volume, once udev has made it.
func (h *zhost) device(volume string) string {
	h.t.Helper()
	name := "/dev/zvol/" + strings.ReplaceAll(volume, " ", "+")
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(50 * time.Millisecond) {
		if _, err := os.Stat(name); err == nil {
			return name
		}
		if time.Now().After(deadline) {
			h.t.Fatalf("%s does not appear", name)
		}
	}
}

// TestZFSVolumeStandsStill takes a point of a volume whose filesystem this host
// has mounted, beside a dataset of another pool: the filesystem is frozen, so
// that what is restored needs no journal to be played back.
func TestZFSVolumeStandsStill(t *testing.T) {
	h := newZHost(t)
	other := h.pool + "b"
	file := h.path("disk b")
	h.sh("truncate", "-s", "512M", file)
	h.sh("zpool", "create", "-O", "mountpoint=/mnt/"+other, other, file)
	t.Cleanup(func() { h.sh("zpool", "destroy", "-f", other) })
	h.sh("zfs", "create", other+"/files")
	volume := h.pool + "/vol ume"
	h.sh("zfs", "create", "-s", "-V", "128M", volume)
	device := h.device(volume)
	h.sh("mkfs.ext4", "-q", device)
	dir := h.path("mounted here")
	h.sh("mkdir", dir)
	h.sh("mount", device, dir)
	t.Cleanup(func() { h.sh("umount", dir) })
	h.beats("snapd-volume", filepath.Join(dir, "beat"), "")
	h.beats("snapd-files", "/mnt/"+other+"/files/beat", "")
	h.grow(dir, "content", 3<<20)
	h.group("[group.one]\npaths = [\"" + dir + "\"]\n" +
		"[group.two]\nunits = [\"snapd-volume\", \"snapd-files\"]\npaths = [\"" + dir + "\", \"/mnt/" + other + "/files\"]\nmax-window = \"60s\"")
	for group, want := range map[string]point.Consistency{"one": point.Crash, "two": point.Frozen} {
		p := h.points("snapshot", "--ship", group)[0]
		if p.Consistency != want || !strings.Contains(p.Why, "was frozen") || len(p.Warnings) > 0 {
			t.Errorf("%s: %s, %s, %q", group, p.Consistency, p.Why, p.Warnings)
		}
		h.goesOn(filepath.Join(dir, "beat"))
		h.goesOn("/mnt/" + other + "/files/beat")
		h.nothingFrozen()
		target := h.pool + "/back " + group
		words := []string{"--kit", h.path("kit"), "restore", string(p.ID), "--to", "zfs:" + target}
		if group == "two" {
			words = append(words, "--dataset", volume)
		}
		h.must(words...)
		h.sh("zfs", "inherit", "volmode", target)
		back := h.device(target)
		if out := h.sh("dumpe2fs", "-h", back); strings.Contains(out, "needs_recovery") || !strings.Contains(out, "Filesystem state:         clean") {
			t.Errorf("%s: it was not frozen: %s", group, out)
		}
		h.sh("fsck.ext4", "-fn", back)
		seen := h.path("seen " + group)
		h.sh("mkdir", seen)
		h.sh("mount", "-o", "ro", back, seen)
		h.sh("cmp", filepath.Join(dir, "content 0"), filepath.Join(seen, "content 0"))
		h.sh("umount", seen)
	}
	// The check above can fail: the volume as it is now does need its journal.
	h.sh("zfs", "snapshot", volume+"@by-hand")
	h.sh("zfs", "clone", volume+"@by-hand", h.pool+"/control")
	if out := h.sh("dumpe2fs", "-h", h.device(h.pool+"/control")); !strings.Contains(out, "needs_recovery") {
		t.Errorf("a snapshot by hand: %s", out)
	}
}
