package btrfs

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path"

	"snapd/internal/advice"
	"snapd/internal/fs"

	"golang.org/x/sys/unix"
)

// Finish implements fs.Receiver. The target becomes a writable snapshot of
// what was received: switching read-only off there instead would keep its
// received_uuid, and later increments would go wrong silently.
func (r *receiver) Finish(ctx context.Context) (fs.Dataset, error) {
	if r.closed {
		return fs.Dataset{}, fmt.Errorf("finish restore to %s: %w", r.target, os.ErrClosed)
	}
	dataset, err := r.finish(ctx)
	if err != nil {
		return fs.Dataset{}, fmt.Errorf("finish restore to %s: %w", r.target, err)
	}
	return dataset, nil
}

func (r *receiver) finish(ctx context.Context) (_ fs.Dataset, err error) {
	if len(r.applied) == 0 {
		return fs.Dataset{}, errors.New("nothing was received")
	}
	if err := ctx.Err(); err != nil {
		return fs.Dataset{}, err
	}
	moved, err := r.moveAside()
	if err != nil {
		return fs.Dataset{}, err
	}
	if moved {
		defer func() {
			if err != nil {
				err = errors.Join(err, r.rename(r.name+r.suffix, r.name))
			}
		}()
	}
	if err := r.makeTarget(); err != nil {
		return fs.Dataset{}, err
	}
	dataset, err := r.completeTarget()
	if err != nil {
		return fs.Dataset{}, errors.Join(err, removeSubvolume(r.parent, r.name, ""))
	}
	return dataset, nil
}

// moveAside renames what is at the target, if the placement says so.
func (r *receiver) moveAside() (moved bool, err error) {
	if r.suffix == "" {
		return false, nil
	}
	if _, err := stat(r.parent, r.name); errors.Is(err, os.ErrNotExist) {
		return false, nil
	} else if err != nil {
		return false, err
	}
	return true, r.rename(r.name, r.name+r.suffix)
}

func (r *receiver) rename(from, to string) error {
	dir := int(r.parent.Fd())
	err := unix.Renameat2(dir, from, dir, to, unix.RENAME_NOREPLACE)
	switch {
	case errors.Is(err, unix.EBUSY):
		return r.busy()
	case errors.Is(err, unix.EEXIST):
		return advice.With(fmt.Errorf("%s: %w", path.Join(r.parent.Name(), to), fs.ErrExists), "move it away")
	case err != nil:
		return &os.LinkError{Op: "rename", Old: path.Join(r.parent.Name(), from), New: path.Join(r.parent.Name(), to), Err: explain(err)}
	}
	return nil
}

func (r *receiver) makeTarget() error {
	last, err := child(r.staging, r.applied[len(r.applied)-1].name)
	if err != nil {
		return err
	}
	defer func() { _ = last.Close() }()
	args, err := snapshotArgs(last, r.name, 0)
	if err != nil {
		return err
	}
	if err := snapshot(r.parent, args); err != nil {
		if errors.Is(err, unix.EEXIST) {
			return fmt.Errorf("%s appeared meanwhile: %w", r.target, fs.ErrExists)
		}
		return fmt.Errorf("make the subvolume: %w", explain(err))
	}
	return nil
}

// completeTarget puts the new subvolume in order and says what it is.
func (r *receiver) completeTarget() (fs.Dataset, error) {
	root, err := child(r.parent, r.name)
	if err != nil {
		return fs.Dataset{}, err
	}
	defer func() { _ = root.Close() }()
	if err := removeOurEmptyDir(root); err != nil {
		return fs.Dataset{}, err
	}
	if err := unix.Syncfs(int(root.Fd())); err != nil {
		return fs.Dataset{}, fmt.Errorf("flush: %w", explain(err))
	}
	id, _, err := inoLookup(root, 0, firstFreeObjectID)
	if err != nil {
		return fs.Dataset{}, err
	}
	dataset, err := describe(root, id)
	dataset.Name = r.target
	return dataset, err
}

// removeOurEmptyDir removes fs.BtrfsDir from a restored subvolume: a snapshot
// of the filesystem's top contains it, empty, since what lies in it are
// subvolumes. Anything but empty directories in there stays.
func removeOurEmptyDir(root *os.File) error {
	dir, err := child(root, fs.BtrfsDir)
	if errors.Is(err, os.ErrNotExist) || errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ELOOP) {
		return nil
	}
	if err != nil {
		return err
	}
	defer func() { _ = dir.Close() }()
	var before unix.Stat_t
	if err := unix.Fstat(int(root.Fd()), &before); err != nil {
		return os.NewSyscallError("fstat", err)
	}
	inside, err := names(dir)
	if err != nil {
		return err
	}
	for _, name := range inside {
		if err := unix.Unlinkat(int(dir.Fd()), name, unix.AT_REMOVEDIR); err != nil {
			return nil
		}
	}
	if err := unix.Unlinkat(int(root.Fd()), fs.BtrfsDir, unix.AT_REMOVEDIR); err != nil {
		return &os.PathError{Op: "rmdir", Path: dir.Name(), Err: err}
	}
	times := []unix.Timespec{before.Atim, before.Mtim}
	if err := unix.UtimesNanoAt(int(root.Fd()), ".", times, 0); err != nil {
		return &os.PathError{Op: "set the times of", Path: root.Name(), Err: err}
	}
	return nil
}
