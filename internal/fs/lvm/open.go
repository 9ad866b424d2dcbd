package lvm

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"snapd/internal/fs"
	"snapd/internal/fs/hidden"
	"snapd/internal/run"

	"golang.org/x/sys/unix"
)

// Open implements fs.Opener: the snapshot is active as long as it is open. Its journal
// is not replayed, since that would write into what increments build on; LVM had the
// kernel write the journal back when it took the snapshot.
func (d *Driver) Open(ctx context.Context, s fs.Snapshot) (fs.Opened, error) {
	m, err := d.openInside(ctx, s)
	if err != nil {
		return nil, fmt.Errorf("open snapshot %s of %s: %w", s.Name, s.Dataset.Name, err)
	}
	return m, nil
}

func (d *Driver) openInside(ctx context.Context, s fs.Snapshot) (_ *hidden.Mount, err error) {
	all, err := d.list(ctx)
	if err != nil {
		return nil, err
	}
	v, err := all.snapshot(s)
	if err != nil {
		return nil, err
	}
	for _, other := range all { // what a killed process had open, or was unmounted since
		if other.idle() && other.uuid != v.uuid {
			if err := d.deactivate(ctx, other); err != nil {
				return nil, err
			}
		}
	}
	device, err := d.open(ctx, v, os.O_RDONLY)
	if err != nil {
		return nil, err
	}
	device.volume = v
	fd, err := mountSnapshot(ctx, device.File, "/dev/mapper/"+dmName(v.vg, v.name, ""))
	if err != nil {
		return nil, errors.Join(err, device.Close())
	}
	return hidden.New(fd, nil, device.Close)
}

// mountSnapshot mounts the filesystem on a device of ours so that nothing is written
// there: ext4 would remove files that were deleted while open even from a read-only
// mount, unless the device is read-only too.
func mountSnapshot(ctx context.Context, device *os.File, node string) (int, error) {
	kind, settings, err := filesystemOn(ctx, node)
	if err != nil {
		return -1, err
	}
	if err := unix.IoctlSetPointerInt(int(device.Fd()), unix.BLKROSET, 1); err != nil {
		return -1, fmt.Errorf("make %s read-only: %w", node, err)
	}
	return hidden.Make(kind, node, settings...)
}

// filesystemOn says how the filesystem on a device is mounted.
func filesystemOn(ctx context.Context, node string) (kind string, settings []string, err error) {
	out, err := run.Output(ctx, "blkid", "-p", "-o", "value", "-s", "TYPE", node)
	if failed := (*run.Error)(nil); errors.As(err, &failed) {
		return "", nil, fmt.Errorf("%w: there is no filesystem on it: %w", fs.ErrNotMine, err)
	}
	if err != nil {
		return "", nil, err
	}
	switch kind = strings.TrimSpace(string(out)); kind {
	case "ext2":
		return kind, nil, nil
	case "ext3", "ext4":
		return kind, []string{"noload"}, nil
	case "xfs":
		return kind, []string{"norecovery", "nouuid"}, nil // the original is mounted
	}
	return "", nil, fmt.Errorf("%w: on it is %s, and only ext4 and XFS can be looked into", fs.ErrNotMine, kind)
}
