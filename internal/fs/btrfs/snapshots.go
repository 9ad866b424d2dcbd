package btrfs

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"

	"snapd/internal/fs"

	"golang.org/x/sys/unix"
)

// Snapshots implements fs.Driver.
func (d *Driver) Snapshots(ctx context.Context, dataset fs.Dataset) ([]fs.Snapshot, error) {
	id, err := d.identify(ctx, dataset)
	if err != nil {
		return nil, fmt.Errorf("list snapshots of %s: %w", dataset.Name, err)
	}
	found, err := listSnapshots(ctx, id, dataset)
	if err != nil {
		return nil, fmt.Errorf("list snapshots of %s: %w", dataset.Name, err)
	}
	return found, nil
}

func listSnapshots(ctx context.Context, id identity, dataset fs.Dataset) ([]fs.Snapshot, error) {
	f, err := openFilesystem(id.fsid)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	source, _, gone := openSource(f, id, dataset)
	if gone == nil {
		gone = source.Close()
	}
	if gone != nil && !errors.Is(gone, fs.ErrNotFound) {
		return nil, gone
	}
	// Snapshots outlive a subvolume that was deleted, and ids are not used
	// again: they are what its owner now needs most.
	folder, err := openFolder(f, id)
	if errors.Is(err, fs.ErrNotFound) {
		return nil, gone
	}
	if err != nil {
		return nil, err
	}
	defer func() { _ = folder.Close() }()
	found, err := readFolder(ctx, folder, dataset)
	if len(found) == 0 {
		err = errors.Join(err, gone)
	}
	return found, err
}

// readFolder lists the complete snapshots in a folder, oldest first.
func readFolder(ctx context.Context, folder *os.File, dataset fs.Dataset) ([]fs.Snapshot, error) {
	names, err := folder.Readdirnames(-1)
	if err != nil {
		return nil, fmt.Errorf("list %s: %w", folder.Name(), err)
	}
	var found []fs.Snapshot
	for _, name := range names {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		if _, _, err := fs.ParseSnapshotName(name); err != nil {
			continue
		}
		snapshot, complete, err := readSnapshot(folder, name, dataset)
		if errors.Is(err, fs.ErrNotFound) {
			continue // deleted meanwhile
		}
		if err != nil {
			return nil, err
		}
		if complete {
			found = append(found, snapshot)
		}
	}
	slices.SortFunc(found, func(a, b fs.Snapshot) int {
		return cmp.Or(cmp.Compare(a.Order, b.Order), a.Time.Compare(b.Time), cmp.Compare(a.Name, b.Name))
	})
	return found, nil
}

// openFolder opens the directory with our snapshots of one subvolume;
// fs.ErrNotFound when there are none.
func openFolder(f *os.File, id identity) (*os.File, error) {
	top, err := openSubvolume(f, topLevelID)
	if err != nil {
		return nil, err
	}
	defer func() { _ = top.Close() }()
	ours, err := openOurs(top, false)
	if err != nil {
		return nil, err
	}
	defer func() { _ = ours.Close() }()
	folder, err := child(ours, id.folder())
	return folder, notFound(err)
}

// readSnapshot describes the snapshot called name. One that is not complete
// was cut off while it was made.
func readSnapshot(folder *os.File, name string, dataset fs.Dataset) (s fs.Snapshot, complete bool, err error) {
	f, err := child(folder, name)
	if err != nil {
		if errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ELOOP) {
			return fs.Snapshot{}, false, nil
		}
		return fs.Snapshot{}, false, notFound(err)
	}
	defer func() { _ = f.Close() }()
	if ok, err := isSubvolume(f); err != nil || !ok {
		return fs.Snapshot{}, false, err
	}
	info, err := subvolInfo(f)
	if err != nil {
		return fs.Snapshot{}, false, err
	}
	return describeSnapshot(info, name, dataset), info.flags&rootReadOnly != 0 && info.receivedUUID.IsZero(), nil
}

func describeSnapshot(info subvolInfoArgs, name string, dataset fs.Dataset) fs.Snapshot {
	return fs.Snapshot{
		Dataset: dataset,
		Name:    name,
		GUID:    info.uuid.String(),
		Order:   info.otransid,
		Time:    info.otime.utc(),
	}
}

// isSubvolume says whether f is the root of a subvolume.
func isSubvolume(f *os.File) (bool, error) {
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return false, &os.PathError{Op: "fstat", Path: f.Name(), Err: err}
	}
	return st.Ino == firstFreeObjectID, nil
}

// openSnapshot opens a complete snapshot of ours and checks that it is the
// one meant. fs.ErrNotFound when it is gone or another has its name.
func openSnapshot(f *os.File, id identity, s fs.Snapshot) (*os.File, subvolInfoArgs, error) {
	folder, err := openFolder(f, id)
	if err != nil {
		return nil, subvolInfoArgs{}, err
	}
	defer func() { _ = folder.Close() }()
	if _, _, err := fs.ParseSnapshotName(s.Name); err != nil {
		return nil, subvolInfoArgs{}, err
	}
	root, err := child(folder, s.Name)
	if err != nil {
		return nil, subvolInfoArgs{}, notFound(err)
	}
	info, err := subvolInfo(root)
	switch {
	case err != nil:
	case info.flags&rootReadOnly == 0:
		err = fmt.Errorf("snapshot %s is writable, so it was never completed or another program changed it: %w", s.Name, fs.ErrNotFound)
	case info.uuid.String() != s.GUID:
		err = fmt.Errorf("snapshot %s is %s now and was %s: %w", s.Name, info.uuid, s.GUID, fs.ErrNotFound)
	}
	if err != nil {
		return nil, subvolInfoArgs{}, errors.Join(err, root.Close())
	}
	return root, info, nil
}
