//go:build guest

package lvm

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"snapd/internal/fs"

	"golang.org/x/sys/unix"
)

// TestUUIDStaysWithTheOrigin sees that nobody who mounts by UUID gets a
// snapshot that is being read, or a volume that is being restored.
func TestUUIDStaysWithTheOrigin(t *testing.T) {
	vg := newGroup(t, 1<<30)
	newPool(t, vg, "pool", 600<<20)
	k := newDesk(t, vg, "pool", "ext4", 64<<20)
	k.write("a", 4<<20)
	uuid := command(t, "blkid", "-o", "value", "-s", "UUID", k.node)
	origin := realNode(t, k.node)
	check := func(when string) {
		t.Helper()
		begin := time.Now()
		command(t, "udevadm", "settle")
		t.Logf("%s: udev settled in %v", when, time.Since(begin).Round(time.Millisecond))
		if got := realNode(t, "/dev/disk/by-uuid/"+uuid); got != origin {
			t.Errorf("%s: the UUID leads to %s, and the volume is %s", when, got, origin)
		}
	}
	check("before")
	s := k.snapshot()
	file := k.stream(s, nil)
	r, err := k.driver.Send(t.Context(), s, nil)
	if err != nil {
		t.Fatal(err)
	}
	check("while it is sent")
	restoring, err := k.driver.Receive(t.Context(), k.place("restored"), fs.Placement{})
	if err != nil {
		t.Fatal(err)
	}
	if err := applyFile(t, restoring, file, s.GUID, ""); err != nil {
		t.Fatal(err)
	}
	check("while it is restored")
	if err := errors.Join(r.Close(), restoring.Close()); err != nil {
		t.Error(err)
	}
	check("after")
}

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
		command(t, "vgchange", "-q", "-a", "n", away)
		command(t, "vgexport", "-q", away)
		defer command(t, "vgimport", "-q", away)
		if _, err := d.Prepare(t.Context(), fs.SnapshotName(time.Now(), "x"), []fs.Dataset{datasetOf(v)}); !errors.Is(err, fs.ErrNotFound) || !strings.Contains(err.Error(), "vgimport") {
			t.Errorf("got %v", err)
		}
		if _, err := d.Receive(t.Context(), away+"/x", fs.Placement{}); err == nil || !strings.Contains(err.Error(), "vgimport") {
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

// TestFilesystemIsChecked on restored volumes: a sound one, and one that is
// not.
func TestFilesystemIsChecked(t *testing.T) {
	vg := newGroup(t, 3<<30)
	newPool(t, vg, "pool", 1<<30)
	for _, c := range []struct{ name, pool, kind string }{{"thin ext4", "pool", "ext4"}, {"thin XFS", "pool", "xfs"}, {"classic ext4", "", "ext4"}} {
		t.Run(c.name, func(t *testing.T) {
			k := newDesk(t, vg, c.pool, c.kind, 320<<20)
			t.Cleanup(func() { unmount(t, k.dir); removeSnapshots(t, vg); removeVolume(t, vg, "da-ta") })
			k.write("a", 4<<20)
			s := k.snapshot()
			r, err := k.driver.Receive(t.Context(), k.place("restored"), fs.Placement{})
			if err != nil {
				t.Fatal(err)
			}
			defer r.Close()
			if err := applyFile(t, r, k.stream(s, nil), s.GUID, ""); err != nil {
				t.Fatal(err)
			}
			dataset, err := r.Finish(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { removeVolume(t, vg, "restored") })
			if said, err := k.driver.CheckFilesystem(t.Context(), dataset); err != nil {
				t.Errorf("a sound one: %v: %s", err, said)
			}
			k.same("after the check", s, dataset.Name)
			command(t, "lvchange", "-q", "-a", "y", "-K", dataset.Name)
			command(t, "dd", "if=/dev/urandom", "of=/dev/"+dataset.Name, "bs=4k", "seek=1", "count=40", "oflag=direct", "status=none")
			command(t, "lvchange", "-q", "-a", "n", dataset.Name)
			if _, err := k.driver.CheckFilesystem(t.Context(), dataset); err == nil {
				t.Error("a damaged one is sound")
			}
		})
	}
}
