//go:build guest

package lvm

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"snapd/internal/advice"
	"snapd/internal/fs"

	"golang.org/x/sys/unix"
)

// TestWhatLiesOnVolumes is about what is taken as what: see the table in
// DESIGN.md.
func TestWhatLiesOnVolumes(t *testing.T) {
	vg := newGroup(t, 2<<30)
	d := newDriver(t)
	locate := func(path string) (fs.Dataset, error) {
		place, err := d.Locate(t.Context(), path)
		return place.Dataset, err
	}
	t.Run("LUKS", func(t *testing.T) {
		node := newVolume(t, vg, "", "secret", 128<<20)
		key := filepath.Join(t.TempDir(), "key")
		if err := os.WriteFile(key, []byte("password"), 0o600); err != nil {
			t.Fatal(err)
		}
		command(t, "cryptsetup", "luksFormat", "-q", "--type", "luks2", "--pbkdf", "pbkdf2", "--pbkdf-force-iterations", "1000", "--key-file", key, node)
		command(t, "cryptsetup", "open", "--key-file", key, node, "opened")
		t.Cleanup(func() { command(t, "cryptsetup", "close", "opened") })
		dir := t.TempDir() + "/x"
		mkfs(t, "ext4", "/dev/mapper/opened", dir)
		dataset, err := locate(dir)
		if err != nil || dataset.Name != vg+"/secret" {
			t.Fatalf("got %+v, %v", dataset, err)
		}
		found, err := d.Filesystems(t.Context(), []fs.Dataset{dataset})
		if err != nil || len(found) != 1 || found[0].Dir != dir || found[0].Type != "ext4" || found[0].Refuses != "" {
			t.Errorf("got %+v, %v", found, err)
		}
	})
	t.Run("swap", func(t *testing.T) {
		node := newVolume(t, vg, "", "swapped", 64<<20)
		command(t, "mkswap", "-q", node)
		command(t, "swapon", node)
		t.Cleanup(func() { command(t, "swapoff", node) })
		if _, err := locate(realNode(t, node)); err == nil || !strings.Contains(err.Error(), "swap") {
			t.Errorf("got %v", err)
		}
	})
	t.Run("raw", func(t *testing.T) {
		node := newVolume(t, vg, "", "vm-disk", 64<<20)
		dataset, err := locate(realNode(t, node))
		if err != nil || dataset.Name != vg+"/vm-disk" {
			t.Fatalf("got %+v, %v", dataset, err)
		}
		if found, err := d.Filesystems(t.Context(), []fs.Dataset{dataset}); err != nil || len(found) > 0 {
			t.Errorf("got %+v, %v", found, err)
		}
		if err := os.WriteFile(node, []byte("a guest's sector"), 0); err != nil {
			t.Fatal(err)
		}
		take(t, d, "raw", dataset)
		removeSnapshots(t, vg)
	})
	t.Run("Btrfs", func(t *testing.T) {
		node := newVolume(t, vg, "", "btr", 256<<20)
		command(t, "mkfs.btrfs", "-q", "-f", node)
		dir := t.TempDir() + "/x"
		mountAt(t, node, dir)
		if _, err := locate(dir); !errors.Is(err, fs.ErrNotMine) {
			t.Errorf("got %v, want ErrNotMine", err)
		}
	})
	t.Run("what LVM needs", func(t *testing.T) {
		node := newVolume(t, vg, "", "etc", 64<<20)
		mkfs(t, "ext4", node, "/etc/lvm/archive")
		dataset, err := locate("/etc/lvm/archive")
		if err != nil {
			t.Fatal(err)
		}
		found, err := d.Filesystems(t.Context(), []fs.Dataset{dataset})
		if err != nil || len(found) != 1 || !strings.Contains(found[0].Refuses, "/etc/lvm/archive") {
			t.Errorf("got %+v, %v", found, err)
		}
	})
	t.Run("an exported group", func(t *testing.T) {
		away := newGroup(t, 256<<20)
		newVolume(t, away, "", "data", 64<<20)
		all, err := d.list(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		v, _ := all.named(away, "data")
		// udev may still look at the new volume, on a busy host.
		command(t, "sh", "-c", "for i in $(seq 60); do vgchange -q -a n "+away+" && vgexport -q "+away+" && exit; sleep 0.5; done; exit 1")
		defer command(t, "vgimport", "-q", away)
		if _, err := d.Prepare(t.Context(), fs.SnapshotName(time.Now(), "x"), []fs.Dataset{datasetOf(v)}); !errors.Is(err, fs.ErrNotFound) || !strings.Contains(advice.Of(err), "vgimport") {
			t.Errorf("got %v", err)
		}
		if _, err := d.Receive(t.Context(), away+"/x", fs.Placement{}); err == nil || !strings.Contains(advice.Of(err), "vgimport") {
			t.Errorf("got %v", err)
		}
	})
}

// TestProbeLeavesNothing also cleans up behind one that was killed with
// everything frozen.
func TestProbeLeavesNothing(t *testing.T) {
	vg := newGroup(t, 256<<20)
	_ = vg
	d := newDriver(t)
	before := command(t, "losetup", "-a")
	why, err := d.refusesFrozen(t.Context())
	if err != nil || why != "" {
		t.Errorf("on this kernel: %q, %v", why, err)
	}
	again := New(filepath.Dir(d.state))
	if err := os.Rename("/sbin/mkfs.ext4", "/sbin/mkfs.ext4.away"); err != nil {
		t.Fatal(err)
	}
	why, err = again.refusesFrozen(t.Context()) // from what was kept
	if err := errors.Join(err, os.Rename("/sbin/mkfs.ext4.away", "/sbin/mkfs.ext4")); err != nil || why != "" {
		t.Errorf("once more: %q, %v", why, err)
	}
	// As a kill in the middle leaves it.
	loop, err := probeLoop(t.Context(), d.state)
	if err != nil {
		t.Fatal(err)
	}
	name := probePrefix + "gone.1.1"
	if err := dmsetup(t.Context(), "create", name, "--table", "0 16384 linear "+loop.Name()+" 0"); err != nil {
		t.Fatal(err)
	}
	root, err := mountNowhere("ext4", "/dev/mapper/"+name)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.IoctlSetInt(int(root.Fd()), fiFreeze, 0); err != nil {
		t.Fatal(err)
	}
	if err := dmsetup(t.Context(), "suspend", "--noudevsync", name); err != nil {
		t.Fatal(err)
	}
	root.Close()
	loop.Close()
	if _, err := d.Sweep(t.Context()); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat("/dev/mapper/" + name); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("its device: %v", err)
	}
	command(t, "udevadm", "settle")
	if after := command(t, "losetup", "-a"); after != before {
		t.Errorf("loop devices: %q, before %q", after, before)
	}
}
