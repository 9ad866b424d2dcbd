package proc

import (
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"
)

// Mount is one line of a mount table: see proc_pid_mountinfo(5).
type Mount struct {
	ID     int    // differs from one mount namespace to the next
	Device Device // the same for all mounts of one filesystem; Btrfs, ZFS and tmpfs have numbers of their own, with the major number 0
	Root   string // path from the filesystem's own top of what is mounted here
	Point  string // where it is mounted
	Type   string // of the filesystem: "ext4", "btrfs", "zfs", …
	Source string // as the filesystem says it: a device's node, or of ZFS the dataset

	ReadOnly           bool // this mount is
	FilesystemReadOnly bool // the whole filesystem is, through every mount
}

// Table is the mount table of one mount namespace. A later line hides an
// earlier one with the same mount point.
type Table []Mount

// Host is the table of the host. Its first process sees it even where this
// process runs in a namespace of its own; without the right to ask, it is that
// of this process.
func Host() (Table, error) {
	table, err := Of(1)
	if errors.Is(err, os.ErrPermission) || errors.Is(err, os.ErrNotExist) {
		table, err = Own()
	}
	if err != nil {
		return nil, fmt.Errorf("read the host's mounts: %w", err)
	}
	return table, nil
}

// Own is the table of this process.
func Own() (Table, error) { return readTable("/proc/self/mountinfo") }

// Of is the table of a process.
func Of(pid int) (Table, error) { return readTable("/proc/" + strconv.Itoa(pid) + "/mountinfo") }

func readTable(file string) (Table, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close() //nolint:errcheck // only read from
	table, err := ReadTable(f)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", file, err)
	}
	return table, nil
}

// ReadTable reads a table as the kernel writes it.
func ReadTable(r io.Reader) (Table, error) {
	all, err := mountinfo.GetMountsFromReader(r, nil)
	if err != nil {
		return nil, err
	}
	table := make(Table, len(all))
	for i, m := range all {
		table[i] = Mount{
			ID: m.ID, Device: Device{uint32(m.Major), uint32(m.Minor)}, Root: m.Root, Point: m.Mountpoint, Type: m.FSType, Source: m.Source,
			ReadOnly:           slices.Contains(strings.Split(m.Options, ","), "ro"),
			FilesystemReadOnly: slices.Contains(strings.Split(m.VFSOptions, ","), "ro"),
		}
	}
	return table, nil
}

// Only keeps the mounts for which keep is true, in their order.
func (t Table) Only(keep func(Mount) bool) Table {
	var out Table
	for _, m := range t {
		if keep(m) {
			out = append(out, m)
		}
	}
	return out
}

// ByID finds a mount by its number.
func (t Table) ByID(id uint64) (Mount, bool) {
	for _, m := range t {
		if uint64(m.ID) == id {
			return m, true
		}
	}
	return Mount{}, false
}

// At finds what is mounted at exactly a path, the topmost of several.
func (t Table) At(path string) (Mount, bool) {
	for _, m := range slices.Backward(t) {
		if m.Point == path {
			return m, true
		}
	}
	return Mount{}, false
}

// Above finds the mount that a path lies on by its name: the one with the
// longest mount point on the way there, the topmost of several.
func (t Table) Above(path string) (Mount, bool) {
	best := -1
	for i, m := range t {
		if _, below := CutDir(path, m.Point); below && (best < 0 || len(m.Point) >= len(t[best].Point)) {
			best = i
		}
	}
	if best < 0 {
		return Mount{}, false
	}
	return t[best], true
}

// Below lists what is mounted strictly below a path, the topmost of each
// mount point.
func (t Table) Below(path string) Table {
	var out Table
	for _, m := range t {
		rest, below := CutDir(m.Point, path)
		if !below || rest == "" {
			continue
		}
		if top, _ := t.At(m.Point); top.ID == m.ID {
			out = append(out, m)
		}
	}
	return out
}

// Through finds the mount through which a path was looked at, by the number
// that statx gave (STATX_MNT_ID). In a namespace of its own this process sees
// other numbers than the host's table has, but the same paths.
func (t Table) Through(path string, st unix.Statx_t) (Mount, bool) {
	if st.Mask&unix.STATX_MNT_ID != 0 {
		if m, ok := t.ByID(st.Mnt_id); ok {
			return m, true
		}
	}
	return t.Above(path)
}

// CutDir returns what of a path lies below a directory, "" for the directory
// itself. Both are absolute, or both are relative to the same directory; "" is the
// top of a filesystem, as "/" is.
func CutDir(path, dir string) (rest string, below bool) {
	if path == dir || path == "" && dir == "/" {
		return "", true
	}
	if dir != "/" {
		dir += "/"
	}
	return strings.CutPrefix(path, dir)
}
