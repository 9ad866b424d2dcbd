package btrfs

import (
	"fmt"
	"os"
	"path"
	"slices"
	"strings"

	"snapd/internal/fs"
	"snapd/internal/proc"

	"golang.org/x/sys/unix"
)

// mountTable are the mounts of Btrfs that the host has, without those whose way
// leads through what another host or a program answers for: it could hang.
type mountTable struct{ proc.Table }

func hostMounts() (mountTable, error) {
	all, err := proc.Host()
	return ofBtrfs(all), err
}

func ofBtrfs(all proc.Table) mountTable {
	return mountTable{all.Only(func(m proc.Mount) bool {
		if m.Type != "btrfs" {
			return false
		}
		_, remote := all.Remote(m.Point)
		return !remote
	})}
}

// of finds the mount through which f was opened.
func (t mountTable) of(f *os.File) (proc.Mount, error) {
	var st unix.Statx_t
	err := unix.Statx(int(f.Fd()), "", unix.AT_EMPTY_PATH, unix.STATX_MNT_ID, &st)
	if err != nil {
		return proc.Mount{}, &os.PathError{Op: "statx", Path: f.Name(), Err: err}
	}
	m, found := t.Through(f.Name(), st)
	if !found {
		return proc.Mount{}, fmt.Errorf("find the mount of %s: %w", f.Name(), fs.ErrNotFound)
	}
	return m, nil
}

// fromTop is the path from the filesystem's top of the subvolume in which
// something lies: at hostPath, seen through m, and at inside from the
// subvolume's root. Of the filesystem's top itself it is "/".
func fromTop(hostPath string, m proc.Mount, inside string) string {
	rest, _ := proc.CutDir(hostPath, m.Point)
	whole := path.Join(m.Root, rest)
	if inside != "" {
		whole = strings.TrimSuffix(whole, "/"+inside)
	}
	return path.Join("/", whole)
}

// hostPath says where on the host the root of a subvolume can be seen, given
// its path from the filesystem's top and the device number of its files. Of
// several paths it takes the shortest, so that every path into one subvolume
// gives the same name; where there is none it writes as findmnt does.
func (t mountTable) hostPath(m proc.Mount, fromTop string, dev uint64) string {
	var seen []string
	for _, other := range t.Table {
		if other.Device != m.Device {
			continue
		}
		rest, below := proc.CutDir(fromTop, other.Root)
		if !below {
			continue
		}
		candidate := path.Join(other.Point, rest)
		var st unix.Stat_t
		if unix.Lstat(candidate, &st) == nil && st.Ino == firstFreeObjectID && st.Dev == dev {
			seen = append(seen, candidate)
		}
	}
	if len(seen) == 0 {
		return m.Source + "[" + fromTop + "]"
	}
	return slices.MinFunc(seen, func(a, b string) int {
		if len(a) != len(b) {
			return len(a) - len(b)
		}
		return strings.Compare(a, b)
	})
}
