package btrfs

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path"

	"snapd/internal/advice"
	"snapd/internal/fs"
	"snapd/internal/fs/btrfs/btrfsstream"

	"golang.org/x/sys/unix"
)

// Receive implements fs.Driver. The target is the absolute path that the
// restored subvolume will have; the directory it is to lie in must exist.
func (d *Driver) Receive(ctx context.Context, target string, placement fs.Placement) (fs.Receiver, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	r := &receiver{target: target, suffix: placement.ReplaceSuffix}
	if err := r.open(); err != nil {
		return nil, errors.Join(fmt.Errorf("restore to %s:%s: %w", fs.Btrfs, target, err), r.Close())
	}
	return r, nil
}

// receiver builds one subvolume in a staging directory of ours.
type receiver struct {
	target  string
	name    string // last element of target
	suffix  string
	parent  *os.File // the directory that target lies in
	ours    *os.File // fs.BtrfsDir at the filesystem's top
	staging *os.File // in there, locked while we live
	stage   string   // its name
	applied []applied
	closed  bool
}

// applied is a snapshot that a stream made in the staging directory.
type applied struct {
	name  string
	guid  btrfsstream.UUID // of the snapshot that was sent; here its received_uuid
	local btrfsstream.UUID // its own here
}

func (r *receiver) open() error {
	if err := r.openParent(); err != nil {
		return err
	}
	if err := r.checkTarget(); err != nil {
		return err
	}
	top, err := openSubvolume(r.parent, topLevelID)
	if err != nil {
		return err
	}
	defer func() { _ = top.Close() }()
	if r.ours, err = openOurs(top, true); err != nil {
		return err
	}
	// What a killed restore left is swept on the way. Should that fail it is
	// still there for the next one, and no reason not to restore.
	_, _ = sweepStaging(r.ours)
	r.stage = newStage()
	if r.staging, err = lockFolder(r.ours, r.stage, unix.LOCK_EX); err == nil {
		r.mark()
	}
	return err
}

func (r *receiver) openParent() error {
	if !path.IsAbs(r.target) {
		return advice.With(errors.New("the target is not an absolute path"), "name one, such as btrfs:/srv/restored")
	}
	r.target = path.Clean(r.target)
	if r.target == "/" {
		return advice.With(fmt.Errorf("the target is the root: %w", fs.ErrExists), "name a directory that does not exist yet, such as btrfs:/srv/restored")
	}
	dir, name := path.Split(r.target)
	dir = path.Clean(dir)
	if len(name)+len(r.suffix) > subvolNameMax {
		return advice.With(fmt.Errorf("the name %q has more than %d bytes", name+r.suffix, subvolNameMax), "choose a shorter one")
	}
	r.name = name
	parent, err := os.OpenFile(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return advice.With(fmt.Errorf("directory %s: %w", dir, fs.ErrNotFound), "create it on a Btrfs filesystem first: mkdir -p %s", dir)
	case errors.Is(err, unix.ENOTDIR):
		return advice.With(fmt.Errorf("%s is not a directory", dir), "choose a target in one")
	case err != nil:
		return err
	}
	r.parent = parent
	if err := checkBtrfs(parent); err != nil {
		return advice.With(err, "choose a target on a Btrfs filesystem")
	}
	return nil
}

// checkTarget looks at what is in the way before anything is touched.
func (r *receiver) checkTarget() error {
	var st unix.Statfs_t
	if err := unix.Fstatfs(int(r.parent.Fd()), &st); err != nil {
		return &os.PathError{Op: "statfs", Path: r.parent.Name(), Err: err}
	}
	if st.Flags&unix.ST_RDONLY != 0 {
		return fmt.Errorf("%s: %w", r.parent.Name(), explain(unix.EROFS))
	}
	at, err := stat(r.parent, r.name)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if r.suffix == "" {
		return fmt.Errorf("%s: %w", r.target, fs.ErrExists)
	}
	if at.Attributes&unix.STATX_ATTR_MOUNT_ROOT != 0 {
		return r.busy()
	}
	if _, err := stat(r.parent, r.name+r.suffix); !errors.Is(err, os.ErrNotExist) {
		return errors.Join(advice.With(fmt.Errorf("%s, where what is at the target would go: %w", r.target+r.suffix, fs.ErrExists), "move it away"), err)
	}
	return nil
}

func (r *receiver) busy() error {
	return advice.With(fmt.Errorf("%s: %w: something is mounted there, so it cannot be moved aside", r.target, fs.ErrBusy), "umount it, or restore beside it")
}

func stat(dir *os.File, name string) (unix.Statx_t, error) {
	var st unix.Statx_t
	flags := unix.AT_SYMLINK_NOFOLLOW | unix.AT_NO_AUTOMOUNT
	if err := unix.Statx(int(dir.Fd()), name, flags, unix.STATX_BASIC_STATS, &st); err != nil {
		return st, &os.PathError{Op: "stat", Path: path.Join(dir.Name(), name), Err: err}
	}
	return st, nil
}

// Close implements fs.Receiver.
func (r *receiver) Close() error {
	if r.closed {
		return nil
	}
	r.closed = true
	var err error
	if r.staging != nil {
		if e := clearStaging(r.ours, r.staging, r.stage); e != nil {
			err = fmt.Errorf("clear what the restore to %s needed: %w; the next restore does it again", r.target, e)
		}
	}
	for _, f := range []*os.File{r.staging, r.ours, r.parent} {
		if f != nil {
			err = errors.Join(err, f.Close())
		}
	}
	return err
}
