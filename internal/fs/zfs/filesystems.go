package zfs

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"snapd/internal/fs"

	"golang.org/x/sys/unix"
)

// Filesystems lists what this host has mounted on volumes. Such a filesystem
// has to stand still for every snapshot: that of a volume does not freeze it
// (openzfs#1636).
func (d *Driver) Filesystems(ctx context.Context, datasets []fs.Dataset) ([]fs.Filesystem, error) {
	found, err := d.find(ctx, datasets...)
	if err != nil {
		return nil, fmt.Errorf("look for mounted volumes: %w", err)
	}
	mounts, err := hostMounts()
	if err != nil {
		return nil, err
	}
	byName := make(map[string]fs.Dataset)
	for i, o := range found {
		if o.kind == volume {
			byName[o.name] = datasets[i]
		}
	}
	if len(byName) == 0 {
		return nil, nil
	}
	return mounts.onVolumes(byName), nil
}

// onVolumes lists each filesystem once, where it is mounted whole if anywhere.
func (t mountTable) onVolumes(volumes map[string]fs.Dataset) []fs.Filesystem {
	var out []fs.Filesystem
	mounts := slices.Clone(t)
	slices.SortStableFunc(mounts, func(a, b mount) int { return len(a.root) - len(b.root) })
	seen := make(map[uint64]bool)
	for _, m := range mounts {
		device := unix.Mkdev(uint32(m.major), uint32(m.minor))
		if m.kind == "zfs" || m.major == 0 && !backed(m) || seen[device] {
			continue
		}
		name, err := m.volume()
		if err != nil {
			continue // no volume's
		}
		dataset, wanted := volumes[name]
		if !wanted {
			continue
		}
		seen[device] = true
		out = append(out, fs.Filesystem{
			Dataset: dataset, Dir: m.point, Type: m.kind, Device: device, Always: true, Refuses: m.refuses(),
		})
	}
	return out
}

// backed tells whether a filesystem with a device number of its own (Btrfs)
// says which device it lies on.
func backed(m mount) bool { return strings.HasPrefix(m.source, "/dev/") }

// volume is the volume that a mount is of.
func (m mount) volume() (string, error) {
	major, minor := m.major, m.minor
	if major == 0 {
		var st unix.Stat_t
		if err := unix.Stat(m.source, &st); err != nil {
			return "", err
		}
		major, minor = int(unix.Major(st.Rdev)), int(unix.Minor(st.Rdev))
	}
	return volumeOf(major, minor)
}

// refuses says why a filesystem must not be frozen, "" when it may.
func (m mount) refuses() string {
	switch m.kind {
	case "ext2", "ext3", "ext4", "xfs", "f2fs", "jfs", "nilfs2", "reiserfs":
		return ""
	case "btrfs":
		return "a frozen Btrfs can hang; what is on it has to be snapshotted by its own driver"
	}
	return "it is not known whether the kernel can freeze " + m.kind
}
