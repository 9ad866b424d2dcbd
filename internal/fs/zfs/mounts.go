package zfs

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"unsafe"

	"snapd/internal/fs"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"
)

// mount is one mount of the host.
type mount struct {
	id           int
	point        string
	root         string // of the filesystem, what is mounted there
	kind         string // "zfs", "ext4", …
	source       string // of ZFS the dataset's name
	major, minor int
	readOnly     bool
}

type mountTable []mount

// hostMounts reads the mounts of the host. Its first process sees the host's
// table even where we run in a namespace of our own.
func hostMounts() (mountTable, error) {
	f, err := os.Open("/proc/1/mountinfo")
	if errors.Is(err, os.ErrPermission) || errors.Is(err, os.ErrNotExist) {
		f, err = os.Open("/proc/self/mountinfo")
	}
	if err != nil {
		return nil, fmt.Errorf("read the host's mounts: %w", err)
	}
	defer func() { _ = f.Close() }()
	return readMounts(f)
}

func readMounts(f io.Reader) (mountTable, error) {
	all, err := mountinfo.GetMountsFromReader(f, nil)
	if err != nil {
		return nil, fmt.Errorf("read the host's mounts: %w", err)
	}
	table := make(mountTable, len(all))
	for i, m := range all {
		table[i] = mount{
			id: m.ID, point: m.Mountpoint, root: m.Root, kind: m.FSType, source: m.Source, major: m.Major, minor: m.Minor,
			readOnly: slices.Contains(strings.Split(m.Options, ","), "ro"),
		}
	}
	return table, nil
}

// of finds the mount through which a path is seen, by its number or, in a
// namespace of our own where numbers differ, by the path.
func (t mountTable) of(hostPath string, id uint64) (mount, bool) {
	best := -1
	for i, m := range t {
		if uint64(m.id) == id {
			return m, true
		}
		if _, below := cutDir(hostPath, m.point); below && (best < 0 || len(m.point) >= len(t[best].point)) {
			best = i
		}
	}
	if best < 0 {
		return mount{}, false
	}
	return t[best], true
}

// cutDir returns what of p lies below dir ("" for dir itself).
func cutDir(p, dir string) (rest string, below bool) {
	if p == dir {
		return "", true
	}
	if dir != "/" {
		dir += "/"
	}
	return strings.CutPrefix(p, dir)
}

// blkzname asks a volume's device for its dataset: BLKZNAME,
// _IOR(0x12, 125, char[256]).
const blkzname = 2<<30 | 256<<16 | 0x12<<8 | 125

// volumeOf is the volume of a block device, or of one of its partitions.
// ErrNotMine for every other device.
func volumeOf(major, minor int) (string, error) {
	dir, err := filepath.EvalSymlinks(fmt.Sprintf("/sys/dev/block/%d:%d", major, minor))
	if err != nil {
		return "", fmt.Errorf("no such device: %w", fs.ErrNotMine)
	}
	if _, err := os.Stat(filepath.Join(dir, "partition")); err == nil {
		dir = filepath.Dir(dir)
	}
	device := filepath.Base(dir)
	if digits, ok := strings.CutPrefix(device, "zd"); !ok || !isNumber(digits) {
		return "", fmt.Errorf("it is no volume of ZFS: %w", fs.ErrNotMine)
	}
	f, err := os.Open("/dev/" + device)
	if err != nil {
		return "", fmt.Errorf("ask the volume for its name: %w", err)
	}
	defer func() { _ = f.Close() }()
	var name [256]byte
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, f.Fd(), blkzname, uintptr(unsafe.Pointer(&name))); errno != 0 {
		return "", &os.PathError{Op: "ask for the name of", Path: f.Name(), Err: errno}
	}
	text, _, _ := bytes.Cut(name[:], []byte{0})
	return string(text), nil
}

func isNumber(s string) bool {
	_, err := strconv.ParseUint(s, 10, 32)
	return err == nil
}
