package btrfs

import (
	"context"
	"errors"
	"fmt"
	"os"

	"snapd/internal/advice"
	"snapd/internal/fs"

	"golang.org/x/sys/unix"
)

// Delete implements fs.Driver. It asks for two keys: a name of ours and, where
// the snapshot has one, its GUID.
func (d *Driver) Delete(ctx context.Context, s fs.Snapshot) error {
	if _, _, err := fs.ParseSnapshotName(s.Name); err != nil {
		return fmt.Errorf("delete snapshot: %w", err)
	}
	id, err := d.identify(ctx, s.Dataset)
	if err == nil {
		err = deleteSnapshot(id, s)
	}
	if err != nil {
		return fmt.Errorf("delete snapshot %s of %s: %w", s.Name, s.Dataset.Name, err)
	}
	return nil
}

func deleteSnapshot(id identity, s fs.Snapshot) error {
	f, err := openFilesystem(id.fsid)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	top, err := openSubvolume(f, topLevelID)
	if err != nil {
		return err
	}
	defer func() { _ = top.Close() }()
	ours, err := openOurs(top, false)
	if errors.Is(err, fs.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	defer func() { _ = ours.Close() }()
	folder, err := child(ours, id.folder())
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer func() { _ = folder.Close() }()
	alone, err := holdAlone(f, folder, id, s.Name)
	if err != nil {
		return err
	}
	defer func() { _ = alone.Close() }()
	if err := removeSubvolume(folder, s.Name, s.GUID); err != nil {
		return err
	}
	return removeFolder(ours, folder, id.folder())
}

// removeSubvolume removes the subvolume called name in dir and its qgroup.
// One that is gone is no error; one with another GUID than wanted ("" for
// any) is left alone, and that is one.
func removeSubvolume(dir *os.File, name, guid string) error {
	root, err := child(dir, name)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	info, err := subvolInfo(root)
	subvolume, isErr := isSubvolume(root)
	closeErr := root.Close()
	if errors.Is(err, fs.ErrNotFound) {
		return closeErr // another process was faster
	}
	if err := errors.Join(err, isErr, closeErr); err != nil {
		return err
	}
	if !subvolume {
		return fmt.Errorf("%s is not a subvolume, so it is not ours to remove", root.Name())
	}
	if guid != "" && info.uuid.String() != guid {
		return fmt.Errorf("%s is subvolume %s, not %s: it is left alone", root.Name(), info.uuid, guid)
	}
	err = destroy(dir, name)
	if errors.Is(err, unix.EPERM) && os.Geteuid() == 0 { // what the kernel says then, even to root
		err = advice.With(fmt.Errorf("%w: %w: it is being sent, is the filesystem's default subvolume or has an active swap file", fs.ErrBusy, err),
			"wait for the send, or see with btrfs subvolume get-default and swapon which it is")
	}
	if err != nil && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("remove subvolume %s: %w", root.Name(), explain(err))
	}
	err = removeQgroup(dir, info.treeID)
	for _, usual := range []error{unix.EBUSY, unix.ENOENT, unix.ENOTCONN, unix.EINVAL} {
		if errors.Is(err, usual) { // still accounted, gone already, quotas are off
			err = nil
		}
	}
	if err != nil {
		return fmt.Errorf("remove the qgroup of subvolume %s: %w", root.Name(), err)
	}
	return nil
}

// removeFolder removes a folder of ours if it is empty and no process is about
// to put something into it (see lockFolder).
func removeFolder(ours, folder *os.File, name string) error {
	if err := unix.Flock(int(folder.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil
		}
		return &os.PathError{Op: "flock", Path: folder.Name(), Err: err}
	}
	err := unix.Unlinkat(int(ours.Fd()), name, unix.AT_REMOVEDIR)
	if err != nil && !errors.Is(err, unix.ENOTEMPTY) && !errors.Is(err, unix.EEXIST) && !errors.Is(err, unix.ENOENT) {
		return &os.PathError{Op: "rmdir", Path: folder.Name(), Err: err}
	}
	return nil
}

// lockFolder makes a folder in dir if it is missing and locks it with a shared
// or exclusive lock, which keeps others from removing it.
func lockFolder(dir *os.File, name string, how int) (*os.File, error) {
	for {
		folder, err := makeChild(dir, name)
		if errors.Is(err, os.ErrNotExist) {
			continue // removed between making and opening
		}
		if err != nil {
			return nil, err
		}
		if err := unix.Flock(int(folder.Fd()), how); err != nil {
			return nil, errors.Join(&os.PathError{Op: "flock", Path: folder.Name(), Err: err}, folder.Close())
		}
		var st unix.Stat_t
		if err := unix.Fstat(int(folder.Fd()), &st); err != nil {
			return nil, errors.Join(os.NewSyscallError("fstat", err), folder.Close())
		}
		if st.Nlink > 0 {
			return folder, nil
		}
		if err := folder.Close(); err != nil { // removed before the lock
			return nil, err
		}
	}
}
