package btrfs

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"strconv"
	"strings"

	"snapd/internal/fs"
	"snapd/internal/fs/btrfs/btrfsstream"

	"golang.org/x/sys/unix"
)

// Ours implements fs.OwnLister.
func (d *Driver) Ours(ctx context.Context) ([]fs.Snapshot, error) {
	var all []fs.Snapshot
	err := everyFilesystem(ctx, func(f *os.File, fsid btrfsstream.UUID, _ bool) error {
		found, err := oursOn(ctx, f, fsid)
		all = append(all, found...)
		return err
	})
	if err != nil {
		err = fmt.Errorf("look for snapshots of ours on Btrfs: %w", err)
	}
	return all, err
}

// everyFilesystem calls visit once for each Btrfs filesystem that is mounted,
// with some directory or file of it. A fault with one keeps it from no other.
func everyFilesystem(ctx context.Context, visit func(f *os.File, fsid btrfsstream.UUID, readOnly bool) error) error {
	mounts, err := hostMounts()
	if err != nil {
		return err
	}
	var failed error
	seen := make(map[btrfsstream.UUID]bool)
	for _, m := range mounts.Table {
		if err := ctx.Err(); err != nil {
			return errors.Join(failed, err)
		}
		f, fsid, err := openMountPoint(m.Point)
		if err != nil {
			continue // hidden under another mount, or gone again
		}
		if !seen[fsid] {
			seen[fsid] = true
			if err := visit(f, fsid, m.FilesystemReadOnly); err != nil {
				failed = errors.Join(failed, fmt.Errorf("the filesystem at %s: %w", m.Point, err))
			}
		}
		failed = errors.Join(failed, f.Close())
	}
	return failed
}

// openOursOn opens the directory of ours on the filesystem that f lies on, nil
// when there is none.
func openOursOn(f *os.File) (*os.File, error) {
	top, err := openSubvolume(f, topLevelID)
	if err != nil {
		return nil, err
	}
	defer func() { _ = top.Close() }()
	ours, err := openOurs(top, false)
	if errors.Is(err, fs.ErrNotFound) {
		return nil, nil //nolint:nilnil // nothing of ours is there
	}
	return ours, err
}

func oursOn(ctx context.Context, f *os.File, fsid btrfsstream.UUID) ([]fs.Snapshot, error) {
	ours, err := openOursOn(f)
	if ours == nil {
		return nil, err
	}
	defer func() { _ = ours.Close() }()
	entries, err := names(ours)
	if err != nil {
		return nil, err
	}
	var all []fs.Snapshot
	for _, name := range entries {
		number, err := strconv.ParseUint(name, 10, 64)
		if err != nil {
			continue
		}
		found, err := oursOf(ctx, f, ours, identity{fsid: fsid, id: number})
		if err != nil {
			return all, err
		}
		all = append(all, found...)
	}
	return all, nil
}

// oursOf lists the snapshots in the folder of one subvolume. What they are
// snapshots of each says itself: it may be gone.
func oursOf(ctx context.Context, f, ours *os.File, id identity) ([]fs.Snapshot, error) {
	folder, err := child(ours, id.folder())
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer func() { _ = folder.Close() }()
	found, err := readFolder(ctx, folder, fs.Dataset{Driver: fs.Btrfs, Domain: id.String()})
	if err != nil || len(found) == 0 {
		return nil, err
	}
	label := nameOf(f, id)
	for i := range found {
		guid, err := originOf(folder, found[i].Name, id)
		if errors.Is(err, fs.ErrNotFound) {
			continue // deleted meanwhile: it has no dataset, and is left out below
		}
		if err != nil {
			return nil, err
		}
		found[i].Dataset.GUID, found[i].Dataset.Name = guid, label
	}
	var out []fs.Snapshot
	for _, s := range found {
		if s.Dataset.GUID != "" {
			out = append(out, s)
		}
	}
	return out, nil
}

// originOf is the GUID of the dataset that a snapshot is of.
func originOf(folder *os.File, name string, id identity) (string, error) {
	f, err := child(folder, name)
	if err != nil {
		return "", notFound(err)
	}
	defer func() { _ = f.Close() }()
	info, err := subvolInfo(f)
	if err != nil {
		return "", err
	}
	if info.parentUUID.IsZero() {
		return id.fsid.String(), nil // see guidOf
	}
	return info.parentUUID.String(), nil
}

// nameOf is how users know a subvolume, or the number that it had.
func nameOf(f *os.File, id identity) string {
	gone := fmt.Sprintf("subvolume %d, which is gone, of the filesystem at %s", id.id, f.Name())
	root, err := openSubvolume(f, id.id)
	if err != nil {
		return gone
	}
	defer func() { _ = root.Close() }()
	var st unix.Stat_t
	mounts, err := hostMounts()
	if err == nil {
		err = unix.Fstat(int(root.Fd()), &st)
	}
	if err != nil {
		return gone
	}
	m, err := mounts.of(f)
	if err != nil {
		return gone
	}
	fromTop, err := pathFromTop(f, root, id.id)
	if err != nil {
		return gone
	}
	return mounts.hostPath(m, fromTop, st.Dev)
}

// pathFromTop is the path of a subvolume from the filesystem's top.
func pathFromTop(f, root *os.File, id uint64) (string, error) {
	const deepest = 64
	at := ""
	for range deepest {
		if id == topLevelID {
			return path.Join("/", at), nil
		}
		info, err := subvolInfo(root)
		if err != nil {
			return "", err
		}
		_, dir, err := inoLookup(f, info.parentID, info.dirID)
		if err != nil {
			return "", err
		}
		at = path.Join(dir, cString(info.name[:]), at)
		parent, err := openSubvolume(f, info.parentID)
		if err != nil {
			return "", err
		}
		defer func() { _ = parent.Close() }()
		root, id = parent, info.parentID
	}
	return "", fmt.Errorf("subvolume %d lies deeper than %d subvolumes", id, deepest)
}

// What a staging directory says of the restore that works in it: an attribute
// that only root sees.
const (
	stageTarget = "trusted.snapd.target"
	stageEnd    = "\x00" // between the target and what was appended to what lay there
)

// mark notes at the staging directory what is restored in it. A filesystem that
// keeps no attributes loses only that.
func (r *receiver) mark() {
	_ = unix.Fsetxattr(int(r.staging.Fd()), stageTarget, []byte(r.target+stageEnd+r.suffix), 0)
}

// stageOf is what mark noted.
func stageOf(staging *os.File) (target, suffix string) {
	text := make([]byte, 2*unix.PathMax)
	n, err := unix.Fgetxattr(int(staging.Fd()), stageTarget, text)
	if err != nil {
		return "", ""
	}
	target, suffix, _ = strings.Cut(string(text[:n]), stageEnd)
	return target, suffix
}

// interruptedRestore says what a restore that was killed left in staging.
func interruptedRestore(staging *os.File) string {
	target, suffix := stageOf(staging)
	if target == "" {
		return "what an interrupted restore had received, in " + staging.Name()
	}
	text := fmt.Sprintf("what an interrupted restore to %s:%s had received, in %s", fs.Btrfs, target, staging.Name())
	if suffix == "" {
		return text
	}
	_, there := os.Lstat(target)
	_, aside := os.Lstat(target + suffix)
	if errors.Is(there, os.ErrNotExist) && aside == nil {
		text += fmt.Sprintf(" (what lay at the target before is now at %s)", target+suffix)
	}
	return text
}

// Interrupted implements fs.InterruptedLister: of what was received nothing can
// be gone on with, and Sweep removes it.
func (d *Driver) Interrupted(ctx context.Context) ([]string, error) {
	var out []string
	err := everyFilesystem(ctx, func(f *os.File, _ btrfsstream.UUID, _ bool) error {
		ours, err := openOursOn(f)
		if ours == nil {
			return err
		}
		defer func() { _ = ours.Close() }()
		found, err := sweepFolders(ours, isStage, func(folder *os.File, _ string) ([]string, error) {
			return []string{interruptedRestore(folder) + ", waits to be removed: the next snapd prune does; begin the restore again"}, nil
		})
		out = append(out, found...)
		return err
	})
	if err != nil {
		err = fmt.Errorf("look for interrupted restores on Btrfs: %w", err)
	}
	return out, err
}

func isStage(name string) bool { return strings.HasPrefix(name, stagePrefix) }
