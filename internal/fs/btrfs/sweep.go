package btrfs

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"strconv"

	"snapd/internal/fs"
	"snapd/internal/fs/btrfs/btrfsstream"

	"golang.org/x/sys/unix"
)

// stagePrefix begins the names of the directories in which restores are built.
const stagePrefix = "restore-"

func newStage() string {
	var random [8]byte
	_, _ = rand.Read(random[:]) // never fails
	return stagePrefix + hex.EncodeToString(random[:])
}

// Sweep removes what killed processes left on any mounted Btrfs filesystem:
// restores that were being built and snapshots that were never completed. It
// returns what it removed. What a living process works on is locked and stays.
func (d *Driver) Sweep(ctx context.Context) ([]string, error) {
	var removed []string
	err := everyFilesystem(ctx, func(f *os.File, _ btrfsstream.UUID, readOnly bool) error {
		if readOnly {
			return nil
		}
		gone, err := sweepFilesystem(f)
		removed = append(removed, gone...)
		return err
	})
	if err != nil {
		err = fmt.Errorf("sweep Btrfs: %w", err)
	}
	return removed, err
}

func sweepFilesystem(f *os.File) ([]string, error) {
	ours, err := openOursOn(f)
	if ours == nil {
		return nil, err
	}
	defer func() { _ = ours.Close() }()
	removed, err := sweepStaging(ours)
	more, errSnapshots := sweepSnapshots(ours)
	return append(removed, more...), errors.Join(err, errSnapshots)
}

// sweepStaging removes restores whose process is gone.
func sweepStaging(ours *os.File) ([]string, error) {
	return sweepFolders(ours, isStage, func(folder *os.File, name string) ([]string, error) {
		return []string{interruptedRestore(folder)}, clearStaging(ours, folder, name)
	})
}

// sweepSnapshots removes snapshots of ours that are not complete, and folders
// in which nothing is left.
func sweepSnapshots(ours *os.File) ([]string, error) {
	numbered := func(name string) bool {
		_, err := strconv.ParseUint(name, 10, 64)
		return err == nil
	}
	return sweepFolders(ours, numbered, func(folder *os.File, name string) ([]string, error) {
		names, err := names(folder)
		if err != nil {
			return nil, err
		}
		var removed []string
		for _, entry := range names {
			if _, _, err := fs.ParseSnapshotName(entry); err != nil {
				continue
			}
			s, complete, err := readSnapshot(folder, entry, fs.Dataset{})
			if errors.Is(err, fs.ErrNotFound) || err == nil && (complete || s.GUID == "") {
				continue
			}
			if err == nil {
				err = removeSubvolume(folder, entry, s.GUID)
			}
			if err != nil {
				return removed, err
			}
			removed = append(removed, folder.Name()+"/"+entry)
		}
		return removed, removeFolder(ours, folder, name)
	})
}

// sweepFolders calls sweep, with the directory locked, for each directory in
// ours that has a wanted name and that no process has locked.
func sweepFolders(ours *os.File, wanted func(string) bool, sweep func(*os.File, string) ([]string, error)) ([]string, error) {
	entries, err := names(ours)
	if err != nil {
		return nil, err
	}
	var removed []string
	var failed error
	for _, name := range entries {
		if !wanted(name) {
			continue
		}
		folder, err := child(ours, name)
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			failed = errors.Join(failed, err)
			continue
		}
		if err := unix.Flock(int(folder.Fd()), unix.LOCK_EX|unix.LOCK_NB); err == nil {
			gone, err := sweep(folder, name)
			removed, failed = append(removed, gone...), errors.Join(failed, err)
		}
		failed = errors.Join(failed, folder.Close())
	}
	return removed, failed
}

// names lists a directory, from its beginning.
func names(dir *os.File) ([]string, error) {
	again, err := openAt(int(dir.Fd()), ".", dir.Name())
	if err != nil {
		return nil, err
	}
	defer func() { _ = again.Close() }()
	found, err := again.Readdirnames(-1)
	if err != nil {
		return nil, fmt.Errorf("list %s: %w", dir.Name(), err)
	}
	return found, nil
}

// clearStaging removes a staging directory that the caller has locked.
func clearStaging(ours, staging *os.File, name string) error {
	inside, err := names(staging)
	if err != nil {
		return err
	}
	for _, subvolume := range inside {
		err = errors.Join(err, removeSubvolume(staging, subvolume, ""))
	}
	if err != nil {
		return err
	}
	if err := unix.Unlinkat(int(ours.Fd()), name, unix.AT_REMOVEDIR); err != nil && !errors.Is(err, unix.ENOENT) {
		return &os.PathError{Op: "rmdir", Path: staging.Name(), Err: err}
	}
	return nil
}
