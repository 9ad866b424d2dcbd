package zfs

import (
	"context"
	"errors"
	"fmt"
	"syscall"

	"snapd/internal/advice"
	"snapd/internal/fs"
	"snapd/internal/fs/hidden"
)

// Open implements fs.Opener. It does not go through .zfs/snapshot, which would mount
// the snapshot for all programs of the host.
func (d *Driver) Open(ctx context.Context, s fs.Snapshot) (fs.Opened, error) {
	m, err := d.openInside(ctx, s)
	if err != nil {
		return nil, fmt.Errorf("open snapshot %s of %s: %w", s.Name, s.Dataset.Name, err)
	}
	return m, nil
}

func (d *Driver) openInside(ctx context.Context, s fs.Snapshot) (*hidden.Mount, error) {
	if _, _, err := fs.ParseSnapshotName(s.Name); err != nil {
		return nil, err
	}
	found, err := d.find(ctx, s.Dataset)
	if err != nil {
		return nil, err
	}
	of := found[0]
	if of.kind == volume {
		return nil, fmt.Errorf("%w: it is a volume, and only filesystems of ZFS can be looked into", fs.ErrNotMine)
	}
	all, err := instantsOf(ctx, of, "snapshot")
	if err != nil {
		return nil, err
	}
	m, there := instantWith(all, s.GUID)
	if !there || m.short() != s.Name {
		return nil, fmt.Errorf("guid %s: %w", s.GUID, fs.ErrNotFound)
	}
	fd, err := unlessSuspended(ctx, of.pool(), func(context.Context) (int, error) { return hidden.Make("zfs", m.name) })
	if errors.Is(err, syscall.EACCES) {
		return nil, advice.With(fmt.Errorf("%w: %w", ErrKey, err), "load it with: zfs load-key %s", of.name)
	}
	if err != nil {
		return nil, err
	}
	return hidden.New(fd, nil, nil)
}
