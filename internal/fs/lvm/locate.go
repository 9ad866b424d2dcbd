package lvm

import (
	"context"
	"errors"
	"fmt"
	"path"
	"strings"

	"snapd/internal/advice"
	"snapd/internal/fs"
	"snapd/internal/proc"

	"golang.org/x/sys/unix"
)

// Locate implements fs.Driver. A path may also be the node of a logical
// volume itself, such as /dev/vg/disk of a virtual machine: then the dataset
// is that volume.
func (d *Driver) Locate(ctx context.Context, hostPath string) (fs.Place, error) {
	if err := ctx.Err(); err != nil {
		return fs.Place{}, err
	}
	if !path.IsAbs(hostPath) {
		return fs.Place{}, fmt.Errorf("locate %q: the path must be absolute", hostPath)
	}
	place, err := d.locate(ctx, path.Clean(hostPath))
	if err != nil {
		return fs.Place{}, fmt.Errorf("locate %s: %w", hostPath, err)
	}
	return place, nil
}

func (d *Driver) locate(ctx context.Context, hostPath string) (fs.Place, error) {
	var st unix.Statx_t
	err := unix.Statx(unix.AT_FDCWD, hostPath, unix.AT_SYMLINK_NOFOLLOW|unix.AT_NO_AUTOMOUNT, unix.STATX_BASIC_STATS|unix.STATX_MNT_ID, &st)
	if errors.Is(err, unix.ENOENT) {
		return fs.Place{}, fmt.Errorf("%w: %w", fs.ErrNotFound, err)
	}
	if err != nil {
		return fs.Place{}, fmt.Errorf("look at it: %w", err)
	}
	dev := proc.Device{Major: st.Dev_major, Minor: st.Dev_minor}
	raw := st.Mode&unix.S_IFMT == unix.S_IFBLK
	var lv string
	if raw {
		raw = false
		if lv, err = volumeBelow(proc.Device{Major: st.Rdev_major, Minor: st.Rdev_minor}); err == nil {
			raw = true
		}
	}
	if !raw {
		if lv, err = volumeBelow(dev); err != nil {
			return fs.Place{}, err
		}
	}
	all, err := d.list(ctx)
	if err != nil {
		return fs.Place{}, err
	}
	v, ok := all.byUUID(lv)
	if !ok {
		return fs.Place{}, advice.With(fmt.Errorf("logical volume with the UUID %s: %w: lvs does not show it, perhaps a devices file or filter leaves it out", lv, fs.ErrNotFound), "look at devices/use_devicesfile and the filters in lvm.conf(5)")
	}
	if raw {
		return fs.Place{Dataset: datasetOf(v), Path: "."}, notSwap(v)
	}
	m, err := mountOf(hostPath, st)
	if err != nil {
		return fs.Place{}, err
	}
	rest, _ := proc.CutDir(hostPath, m.Point)
	inside := strings.TrimPrefix(path.Join(m.Root, rest), "/")
	if inside == "" {
		inside = "."
	}
	return fs.Place{Dataset: datasetOf(v), Path: inside}, nil
}

// notSwap refuses what is worth nothing in a backup.
func notSwap(v volume) error {
	swaps, err := proc.Swaps()
	if err != nil {
		return err
	}
	for _, s := range swaps {
		if s.File {
			continue
		}
		dev, err := proc.Node(s.Path)
		if err != nil {
			continue
		}
		if lv, err := volumeBelow(dev); err == nil && lv == v.uuid {
			return advice.With(fmt.Errorf("%s is swap space, of which a snapshot is worth nothing", v.full()), "leave it out")
		}
	}
	return nil
}

// volumeBelow returns the UUID of the logical volume that a block device lies
// on: its own, or that of the one device below an encrypted device or a
// partition. fs.ErrNotMine for everything else.
func volumeBelow(dev proc.Device) (string, error) {
	const deepest = 8
	at := dev
	for range deepest {
		kind, err := dmUUID(at)
		if err != nil {
			return "", err
		}
		if kind == "" {
			return "", fmt.Errorf("device %s is no logical volume: %w", dev, fs.ErrNotMine)
		}
		if lv := volumeOfDM(kind); lv != "" {
			return lv, nil
		}
		below, err := slaves(at)
		if err != nil {
			return "", err
		}
		if len(below) != 1 {
			return "", fmt.Errorf("device %s (%s) lies on %d devices, and a snapshot is only of one: %w", dev, kind, len(below), fs.ErrNotMine)
		}
		at = below[0]
	}
	return "", fmt.Errorf("device %s is a stack of more than %d devices: %w", dev, deepest, fs.ErrNotMine)
}

// volumeOfDM reads device-mapper's identifier of a visible logical volume:
// LVM- and the UUIDs of group and volume, without dashes. "" for others,
// hidden layers among them.
func volumeOfDM(uuid string) string {
	const one = 32
	both, lvm := strings.CutPrefix(uuid, "LVM-")
	if !lvm || len(both) != 2*one {
		return ""
	}
	return dashed(both[one:])
}

// dashed writes a UUID as LVM shows it.
func dashed(s string) string {
	var b strings.Builder
	at := 0
	for i, n := range []int{6, 4, 4, 4, 4, 4, 6} {
		if i > 0 {
			b.WriteByte('-')
		}
		b.WriteString(s[at : at+n])
		at += n
	}
	return b.String()
}
