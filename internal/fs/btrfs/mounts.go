package btrfs

import (
	"errors"
	"fmt"
	"os"
	"path"
	"slices"
	"strings"

	"snapd/internal/fs"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"
)

// hostMount is one mount of a Btrfs filesystem on the host.
type hostMount struct {
	id       int
	point    string // host path
	root     string // path from the filesystem's top of what is mounted there
	source   string // device, as the mount table says
	major    int    // with minor: the same for all mounts of one filesystem
	minor    int
	readOnly bool // the whole filesystem, not only this mount
}

type mountTable []hostMount

// hostMounts reads the mounts of Btrfs that the host has. Its first process
// sees the host's table even where we run in a namespace of our own.
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

func readMounts(f interface{ Read([]byte) (int, error) }) (mountTable, error) {
	all, err := mountinfo.GetMountsFromReader(f, mountinfo.FSTypeFilter("btrfs"))
	if err != nil {
		return nil, fmt.Errorf("read the host's mounts: %w", err)
	}
	table := make(mountTable, len(all))
	for i, m := range all {
		table[i] = hostMount{
			id: m.ID, point: m.Mountpoint, root: m.Root, source: m.Source, major: m.Major, minor: m.Minor,
			readOnly: slices.Contains(strings.Split(m.VFSOptions, ","), "ro"),
		}
	}
	return table, nil
}

// of finds the mount through which f was opened.
func (t mountTable) of(f *os.File) (hostMount, error) {
	var st unix.Statx_t
	err := unix.Statx(int(f.Fd()), "", unix.AT_EMPTY_PATH, unix.STATX_MNT_ID, &st)
	if err != nil {
		return hostMount{}, &os.PathError{Op: "statx", Path: f.Name(), Err: err}
	}
	for _, m := range t {
		if st.Mask&unix.STATX_MNT_ID != 0 && uint64(m.id) == st.Mnt_id {
			return m, nil
		}
	}
	// In a namespace of our own the numbers differ from the host's, the
	// paths do not.
	best := -1
	for i, m := range t {
		if _, below := cutDir(f.Name(), m.point); below && (best < 0 || len(m.point) >= len(t[best].point)) {
			best = i
		}
	}
	if best < 0 {
		return hostMount{}, fmt.Errorf("find the mount of %s: %w", f.Name(), fs.ErrNotFound)
	}
	return t[best], nil
}

// hostPath says where on the host the root of a subvolume can be seen, given
// its path from the filesystem's top and the device number of its files. Of
// several places it takes the shortest, so that every path into one subvolume
// gives the same name; where there is none it writes as findmnt does.
func (t mountTable) hostPath(m hostMount, fromTop string, dev uint64) string {
	var seen []string
	for _, other := range t {
		if other.major != m.major || other.minor != m.minor {
			continue
		}
		rest, below := cutDir(fromTop, other.root)
		if !below {
			continue
		}
		candidate := path.Join(other.point, rest)
		var st unix.Stat_t
		if unix.Lstat(candidate, &st) == nil && st.Ino == firstFreeObjectID && st.Dev == dev {
			seen = append(seen, candidate)
		}
	}
	if len(seen) == 0 {
		return m.source + "[" + fromTop + "]"
	}
	return slices.MinFunc(seen, func(a, b string) int {
		if len(a) != len(b) {
			return len(a) - len(b)
		}
		return strings.Compare(a, b)
	})
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
