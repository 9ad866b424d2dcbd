//go:build host

package btrfs

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"snapd/internal/fs"

	"golang.org/x/sys/unix"
)

// twoDevices makes a mirrored Btrfs and mounts it at a path with a space.
func twoDevices(t *testing.T) (mnt string, nodes [2]string) {
	t.Helper()
	dir := t.TempDir()
	mnt = filepath.Join(dir, "m nt")
	if err := os.Mkdir(mnt, 0o755); err != nil {
		t.Fatal(err)
	}
	for i := range nodes {
		file := filepath.Join(dir, "disk"+string(rune('0'+i)))
		if err := os.WriteFile(file, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Truncate(file, 256<<20); err != nil {
			t.Fatal(err)
		}
		nodes[i] = attachLoop(t, file)
	}
	command(t, "mkfs.btrfs", "-q", "-m", "raid1", "-d", "raid1", nodes[0], nodes[1])
	return mnt, nodes
}

// TestHealth: what the kernel knows of a filesystem's devices is told once,
// whatever number of datasets lie on it.
func TestHealth(t *testing.T) {
	mnt, nodes := twoDevices(t)
	command(t, "mount", "-t", "btrfs", nodes[0], mnt)
	one, two := subvolume(t, mnt+"/a"), subvolume(t, mnt+"/b c")
	told := func() []fs.Finding {
		t.Helper()
		found, err := New().Health(t.Context(), []fs.Dataset{one, two, two})
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range found {
			if !strings.HasPrefix(f.On, "Btrfs at "+mnt) || f.Do == "" || len(f.Datasets) != 2 {
				t.Errorf("got %+v", f)
			}
		}
		return found
	}
	if found := told(); len(found) > 0 {
		t.Fatalf("of a sound filesystem: %+v", found)
	}
	command(t, "mount", "-o", "remount,ro", mnt)
	if found := told(); len(found) != 1 || !found[0].Grave || !strings.Contains(found[0].What, "read-only") {
		t.Errorf("read-only: %+v", found)
	}
	command(t, "umount", mnt)
	if found := told(); len(found) > 0 {
		t.Errorf("of what is not mounted: %+v", found)
	}

	// Without the second device it is mounted only when that is asked for.
	command(t, "btrfs", "device", "scan", "--forget")
	hide(t, nodes[1])
	command(t, "mount", "-t", "btrfs", "-o", "degraded", nodes[0], mnt)
	t.Cleanup(func() { command(t, "umount", mnt) })
	found := told()
	if len(found) != 1 || !found[0].Grave || !strings.Contains(found[0].What, "1 of its 2 devices is missing") {
		t.Errorf("degraded: %+v", found)
	}
}

// hide makes a device one that is no Btrfs, so that no scan finds it.
func hide(t *testing.T, node string) {
	t.Helper()
	f, err := os.OpenFile(node, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	const super = 64 << 10 // where the superblock is
	if _, err := f.WriteAt(make([]byte, 4096), super); err != nil {
		t.Fatal(err)
	}
	if err := f.Sync(); err != nil {
		t.Fatal(err)
	}
}

// TestHealthCountsErrors: damage that was met is told until the counts are reset.
func TestHealthCountsErrors(t *testing.T) {
	mnt := newFilesystem(t, 300<<20)
	dataset := subvolume(t, mnt+"/source")
	write(t, mnt+"/source/f", damageable)
	damage(t, mnt)
	forget(t, mnt+"/source/f")
	if out, err := exec.Command("cat", mnt+"/source/f").CombinedOutput(); err == nil {
		t.Fatalf("the file can be read: %d bytes", len(out))
	}
	found, err := New().Health(t.Context(), []fs.Dataset{dataset})
	if err != nil || len(found) != 1 || found[0].Grave || !strings.Contains(found[0].What, "of checksums") {
		t.Fatalf("got %+v, %v", found, err)
	}
	command(t, "btrfs", "device", "stats", "-z", mnt)
	if found, err := New().Health(t.Context(), []fs.Dataset{dataset}); len(found) > 0 || err != nil {
		t.Errorf("after a reset: %+v, %v", found, err)
	}
}

// forget makes the kernel read a file's data from the disk again.
func forget(t *testing.T, file string) {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED); err != nil {
		t.Fatal(err)
	}
}

// TestHealthIsQuick: it takes no lock that a running sync or a frozen application
// has, and reads nothing from the devices.
func TestHealthIsQuick(t *testing.T) {
	mnt := newFilesystem(t, 300<<20)
	dataset := subvolume(t, mnt+"/source")
	dir, err := os.Open(mnt)
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	const freeze, thaw = 0xc0045877, 0xc0045878
	if err := unix.IoctlSetInt(int(dir.Fd()), freeze, 0); err != nil {
		t.Fatal(err)
	}
	begin := time.Now()
	found, err := New().Health(t.Context(), []fs.Dataset{dataset})
	took := time.Since(begin)
	if err := unix.IoctlSetInt(int(dir.Fd()), thaw, 0); err != nil {
		t.Fatal(err)
	}
	if err != nil || len(found) > 0 || took > 500*time.Millisecond {
		t.Errorf("of a frozen filesystem: %+v, %v after %v", found, err, took)
	}
}
