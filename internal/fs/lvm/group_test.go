//go:build guest

package lvm

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"snapd/internal/vmtest"

	"golang.org/x/sys/unix"
)

// command runs a program that a test needs, and fails the test if it cannot.
func command(t testing.TB, argv ...string) string {
	t.Helper()
	out, err := exec.Command(argv[0], argv[1:]...).CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %v\n%s", argv, err, out)
	}
	return strings.TrimSpace(string(out))
}

var groups atomic.Int64

// newGroup makes a volume group of size bytes on a file.
func newGroup(t testing.TB, size int64, options ...string) (vg string) {
	t.Helper()
	vmtest.Inside(t)
	f, err := os.CreateTemp("/var/tmp", "disk-") // /tmp is memory
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.Remove(f.Name()) })
	if err := f.Truncate(size); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	node := command(t, "losetup", "-f", "--show", f.Name())
	t.Cleanup(func() { command(t, "losetup", "-d", node) })
	vg = fmt.Sprintf("v-g.%d+%d", os.Getpid(), groups.Add(1))
	command(t, append(append([]string{"vgcreate", "-q"}, options...), vg, node)...)
	t.Cleanup(func() {
		command(t, "vgremove", "-q", "-f", "-y", vg)
		command(t, "pvremove", "-q", "-f", "-y", node)
	})
	return vg
}

// newPool adds a thin pool to a group.
func newPool(t testing.TB, vg, name string, size int64, options ...string) {
	t.Helper()
	command(t, append(append([]string{"lvcreate", "-q", "-y", "-L", fmt.Sprint(size, "b"), "--poolmetadatasize", "16M", "-T"}, options...), vg+"/"+name)...)
}

// newVolume makes a volume, thin if pool is not empty.
func newVolume(t testing.TB, vg, pool, name string, size int64) (node string) {
	t.Helper()
	if pool != "" {
		command(t, "lvcreate", "-q", "-y", "-V", fmt.Sprint(size, "b"), "-T", vg+"/"+pool, "-n", name)
	} else {
		command(t, "lvcreate", "-q", "-y", "-W", "n", "-L", fmt.Sprint(size, "b"), "-n", name, vg)
	}
	return "/dev/" + vg + "/" + name
}

func removeVolume(t testing.TB, vg, name string) {
	t.Helper()
	// Its snapshots go first; those of classic volumes would with it.
	command(t, "lvremove", "-q", "-f", "-y", vg+"/"+name)
}

// mkfs makes and mounts a filesystem; it is unmounted when the test ends.
func mkfs(t testing.TB, kind, node, dir string, options ...string) {
	t.Helper()
	switch kind {
	case "xfs":
		command(t, append(append([]string{"mkfs.xfs", "-q", "-f"}, options...), node)...)
		mountAt(t, node, dir)
	default:
		command(t, append(append([]string{"mkfs.ext4", "-q", "-F"}, options...), node)...)
		// What the kernel initializes in the background would be different
		// in every run.
		mountAt(t, node, dir, "-o", "noinit_itable")
	}
}

func mountAt(t testing.TB, node, dir string, options ...string) {
	t.Helper()
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	command(t, append(append([]string{"mount"}, options...), node, dir)...)
	t.Cleanup(func() { unmount(t, dir) })
}

// unmount does nothing when it was done before.
func unmount(t testing.TB, dir string) {
	t.Helper()
	var there, above unix.Stat_t
	if unix.Stat(dir, &there) != nil || unix.Stat(filepath.Dir(dir), &above) != nil || there.Dev == above.Dev {
		return
	}
	command(t, "umount", dir)
}

// exists tells whether a volume does.
func exists(t testing.TB, full string) bool {
	t.Helper()
	vg, name, _ := strings.Cut(full, "/")
	return strings.Contains("\n"+command(t, "sh", "-c", "lvs --noheadings -o lv_name "+vg+" | tr -d ' '")+"\n", "\n"+name+"\n")
}
