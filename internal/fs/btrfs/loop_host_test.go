//go:build host

package btrfs

import (
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

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

var attaching sync.Mutex

// attachLoop attaches file to a free loop device. A machine without udev has
// only the first few nodes, so the one that the kernel offers may have to be
// made; and another process may take it first, so it is tried again.
func attachLoop(t testing.TB, file string) string {
	t.Helper()
	attaching.Lock()
	defer attaching.Unlock()
	control, err := os.OpenFile("/dev/loop-control", os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer control.Close()
	for deadline := time.Now().Add(20 * time.Second); ; {
		number, err := unix.IoctlRetInt(int(control.Fd()), unix.LOOP_CTL_GET_FREE)
		if err != nil {
			t.Fatalf("find a free loop device: %v", err)
		}
		node := "/dev/loop" + strconv.Itoa(number)
		err = unix.Mknod(node, unix.S_IFBLK|0o600, int(unix.Mkdev(7, uint32(number))))
		if err != nil && err != unix.EEXIST {
			t.Fatalf("make %s: %v", node, err)
		}
		out, err := exec.Command("losetup", node, file).CombinedOutput()
		if err == nil {
			t.Cleanup(func() { command(t, "losetup", "-d", node) })
			return node
		}
		if time.Now().After(deadline) {
			t.Fatalf("attach %s to %s: %v: %s", file, node, err, out)
		}
	}
}

// newFilesystem makes a Btrfs of size bytes in a file, mounts it and returns
// where.
func newFilesystem(t testing.TB, size int64, options ...string) string {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Fatal("this test needs root")
	}
	dir := t.TempDir()
	file := filepath.Join(dir, "disk")
	f, err := os.Create(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Truncate(size); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	node := attachLoop(t, file)
	command(t, append(append([]string{"mkfs.btrfs", "-q"}, options...), node)...)
	mnt := filepath.Join(dir, "mnt")
	if err := os.Mkdir(mnt, 0o755); err != nil {
		t.Fatal(err)
	}
	mount(t, node, mnt)
	return mnt
}

func mount(t testing.TB, node, at string, options ...string) {
	t.Helper()
	command(t, append(append([]string{"mount", "-t", "btrfs"}, options...), node, at)...)
	t.Cleanup(func() { command(t, "umount", at) })
}

func bind(t testing.TB, from, to string) {
	t.Helper()
	command(t, "mount", "--bind", from, to)
	t.Cleanup(func() { command(t, "umount", to) })
}

// available is the room on a filesystem, in bytes.
func available(t testing.TB, dir string) uint64 {
	t.Helper()
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		t.Fatal(err)
	}
	return st.Bavail * uint64(st.Bsize)
}
