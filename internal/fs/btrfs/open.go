package btrfs

import (
	"context"
	"errors"
	"fmt"
	iofs "io/fs"
	"os"
	"path"
	"syscall"

	"snapd/internal/advice"
	"snapd/internal/fs"
	"snapd/internal/fs/hidden"

	"golang.org/x/sys/unix"
)

// emptySubvolume is the inode number of what stands in a snapshot where the
// subvolume had another one below it (BTRFS_EMPTY_SUBVOL_DIR_OBJECTID).
const emptySubvolume = 2

// Open implements fs.Opener.
func (d *Driver) Open(ctx context.Context, s fs.Snapshot) (fs.Opened, error) {
	m, err := d.openInside(ctx, s)
	if err != nil {
		return nil, fmt.Errorf("open snapshot %s of %s: %w", s.Name, s.Dataset.Name, err)
	}
	return m, nil
}

func (d *Driver) openInside(ctx context.Context, s fs.Snapshot) (*hidden.Mount, error) {
	id, err := d.identify(ctx, s.Dataset)
	if err != nil {
		return nil, err
	}
	f, err := openFilesystem(id.fsid)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	root, info, err := openSnapshot(f, id, s)
	if err != nil {
		return nil, err
	}
	// Of a subvolume that is deleted the kernel shows nothing, open or not: Delete
	// needs the same lock alone.
	if err := unix.Flock(int(root.Fd()), unix.LOCK_SH|unix.LOCK_NB); err != nil {
		return nil, errors.Join(fmt.Errorf("%w: it is being deleted: %w", fs.ErrNotFound, err), root.Close())
	}
	m, err := openMount(f, info.treeID)
	if err != nil {
		return nil, errors.Join(notFound(err), root.Close())
	}
	opened, err := hidden.New(m.fd, isEmptySubvolume, root.Close)
	if closed := m.root.Close(); err == nil && closed != nil {
		return nil, errors.Join(closed, opened.Close())
	}
	return opened, err
}

// holdAlone locks a snapshot that no process has open and that is mounted nowhere, so
// that none opens it. The caller closes what it returns. One that is gone is no error.
func holdAlone(f, folder *os.File, id identity, name string) (*os.File, error) {
	root, err := child(folder, name)
	if errors.Is(err, os.ErrNotExist) {
		return folderAgain(folder)
	}
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(root.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return nil, errors.Join(advice.With(fmt.Errorf("%w: a snapd is looking into it", fs.ErrBusy), "wait until that has ended"), root.Close())
	}
	mounts, err := hostMounts()
	if err != nil {
		return nil, errors.Join(err, root.Close())
	}
	of, err := mounts.of(f)
	if err != nil {
		return root, nil //nolint:nilerr // a mount that no table lists, as in a container: it can be asked for no other
	}
	for _, m := range mounts.Table {
		if m.Device == of.Device && m.Root == path.Join("/", fs.BtrfsDir, id.folder(), name) {
			return nil, errors.Join(advice.With(fmt.Errorf("%w: it is mounted at %s", fs.ErrBusy, m.Point), "unmount it: umount %s", m.Point), root.Close())
		}
	}
	return root, nil
}

// folderAgain opens a folder once more.
func folderAgain(folder *os.File) (*os.File, error) {
	return openAt(int(folder.Fd()), ".", folder.Name())
}

func isEmptySubvolume(info iofs.FileInfo) bool {
	st, ok := info.Sys().(*syscall.Stat_t)
	return ok && info.IsDir() && st.Ino == emptySubvolume
}
