package zfs

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"snapd/internal/fs"
	"snapd/internal/proc"
)

// Filesystems lists what this host has mounted on volumes. Such a filesystem
// has to be frozen for every snapshot: that of a volume does not freeze it
// (openzfs#1636).
func (d *Driver) Filesystems(ctx context.Context, datasets []fs.Dataset) ([]fs.Filesystem, error) {
	found, err := d.find(ctx, datasets...)
	if err != nil {
		return nil, fmt.Errorf("look for mounted volumes: %w", err)
	}
	mounts, err := proc.Host()
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
	return onVolumes(mounts, byName), nil
}

// onVolumes lists each filesystem once, where it is mounted whole if anywhere.
func onVolumes(table proc.Table, volumes map[string]fs.Dataset) []fs.Filesystem {
	var out []fs.Filesystem
	mounts := slices.Clone(table)
	slices.SortStableFunc(mounts, func(a, b proc.Mount) int { return len(a.Root) - len(b.Root) })
	seen := make(map[uint64]bool)
	for _, m := range mounts {
		device := m.Device.Number()
		if m.Type == "zfs" || m.Device.Major == 0 && !backed(m) || seen[device] {
			continue
		}
		name, err := volumeAt(m)
		if err != nil {
			continue // no volume's
		}
		dataset, wanted := volumes[name]
		if !wanted {
			continue
		}
		seen[device] = true
		out = append(out, fs.Filesystem{
			Dataset: dataset, Dir: m.Point, Type: m.Type, Device: device, Always: true, Refuses: refuses(m),
		})
	}
	return out
}

// backed tells whether a filesystem with a device number of its own (Btrfs)
// says which device it lies on.
func backed(m proc.Mount) bool { return strings.HasPrefix(m.Source, "/dev/") }

// volumeAt is the volume that a mount is of.
func volumeAt(m proc.Mount) (string, error) {
	device := m.Device
	if device.Major == 0 {
		var err error
		if device, err = proc.Node(m.Source); err != nil {
			return "", err
		}
	}
	return volumeOf(device)
}

// refuses says why a filesystem must not be frozen, "" when it may.
func refuses(m proc.Mount) string {
	switch m.Type {
	case "ext2", "ext3", "ext4", "xfs", "f2fs", "jfs", "nilfs2", "reiserfs":
		return ""
	case "btrfs":
		return "a frozen Btrfs can hang; what is on it has to be snapshotted by its own driver"
	}
	return "it is not known whether the kernel can freeze " + m.Type
}
