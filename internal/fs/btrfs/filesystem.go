package btrfs

import (
	"context"
	"errors"
	"fmt"
	"os"

	"snapd/internal/advice"
	"snapd/internal/fs"
	"snapd/internal/fs/btrfs/btrfsstream"
	"snapd/internal/proc"

	"golang.org/x/sys/unix"
)

// identify returns what the dataset's Domain says, or finds it out by the
// dataset's name.
func (d *Driver) identify(ctx context.Context, dataset fs.Dataset) (identity, error) {
	if dataset.Driver != fs.Btrfs && dataset.Driver != "" {
		return identity{}, fmt.Errorf("%s belongs to driver %s: %w", dataset.Name, dataset.Driver, fs.ErrNotMine)
	}
	if dataset.Domain != "" {
		return parseIdentity(dataset.Domain)
	}
	place, err := d.Locate(ctx, dataset.Name)
	if err != nil {
		return identity{}, err
	}
	if place.Path != "." || dataset.GUID != "" && place.Dataset.GUID != dataset.GUID {
		return identity{}, fmt.Errorf("subvolume %s: what is there now is not it: %w", dataset.Name, fs.ErrNotFound)
	}
	return parseIdentity(place.Dataset.Domain)
}

// openFilesystem opens some directory or file on the filesystem.
func openFilesystem(fsid btrfsstream.UUID) (*os.File, error) {
	mounts, err := hostMounts()
	if err != nil {
		return nil, err
	}
	tried := make(map[proc.Device]bool) // by device number: several mounts of one filesystem
	for _, m := range mounts.Table {
		if tried[m.Device] {
			continue
		}
		f, found, err := openMountPoint(m.Point)
		if err != nil {
			continue // hidden under another mount, or gone again
		}
		tried[m.Device] = true
		if found == fsid {
			return f, nil
		}
		if err := f.Close(); err != nil {
			return nil, err
		}
	}
	return nil, advice.With(fmt.Errorf("the Btrfs filesystem %s is not mounted: %w", fsid, fs.ErrNotFound), "mount it and try again")
}

func openMountPoint(path string) (*os.File, btrfsstream.UUID, error) {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC|unix.O_NONBLOCK|unix.O_NOFOLLOW, 0)
	if err != nil {
		return nil, btrfsstream.UUID{}, &os.PathError{Op: "open", Path: path, Err: err}
	}
	f := os.NewFile(uintptr(fd), path)
	fsid, _, err := filesystemInfo(f)
	if err != nil {
		return nil, btrfsstream.UUID{}, errors.Join(err, f.Close())
	}
	return f, fsid, nil
}

// openSource opens the root of a dataset's subvolume. One that is gone, or that
// another has replaced, is fs.ErrNotFound.
func openSource(f *os.File, id identity, dataset fs.Dataset) (*os.File, subvolInfoArgs, error) {
	root, err := openSubvolume(f, id.id)
	if err != nil {
		return nil, subvolInfoArgs{}, fmt.Errorf("open subvolume %s: %w", dataset.Name, notFound(err))
	}
	info, err := subvolInfo(root)
	if err == nil && dataset.GUID != "" && guidOf(info, id.fsid) != dataset.GUID {
		err = fmt.Errorf("subvolume %s (%s) is gone and another has its number: %w", dataset.Name, dataset.GUID, fs.ErrNotFound)
	}
	if err != nil {
		return nil, subvolInfoArgs{}, errors.Join(err, root.Close())
	}
	return root, info, nil
}

// guidOf is the GUID of the dataset that a subvolume is. The top of a
// filesystem made before btrfs-progs 4.16 has none but the filesystem's.
func guidOf(info subvolInfoArgs, fsid btrfsstream.UUID) string {
	if info.uuid.IsZero() {
		return fsid.String()
	}
	return info.uuid.String()
}
