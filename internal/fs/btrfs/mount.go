package btrfs

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"

	"snapd/internal/advice"
	"snapd/internal/fs"

	"golang.org/x/sys/unix"
)

// privateMount is a mount that is attached nowhere: no namespace and no table
// shows it, and it goes with its last descriptor. An unmounted filesystem
// stays busy as long as it exists, so it is opened for one call and closed.
type privateMount struct {
	root *os.File // its root directory
	fd   int      // of the mount itself
}

// openMount mounts subvolume id of the filesystem that f lies on.
func openMount(f *os.File, id uint64) (*privateMount, error) {
	m, err := newMount(f, id)
	if err != nil {
		return nil, fmt.Errorf("mount subvolume %d of the filesystem at %s privately: %w", id, f.Name(), explain(err))
	}
	return m, nil
}

// openSubvolume opens the root of a subvolume of the filesystem that f lies
// on, wherever on the host it is to be seen, if at all.
func openSubvolume(f *os.File, id uint64) (*os.File, error) {
	m, err := openMount(f, id)
	if err != nil {
		return nil, err
	}
	if err := unix.Close(m.fd); err != nil { // root keeps the mount
		return nil, errors.Join(os.NewSyscallError("close", err), m.root.Close())
	}
	return m.root, nil
}

// OpenTop implements fs.TopOpener.
func (d *Driver) OpenTop(ctx context.Context, dataset fs.Dataset) (*os.File, error) {
	if dataset.Driver != fs.Btrfs {
		return nil, fs.ErrNotMine
	}
	id, err := d.identify(ctx, dataset)
	if err != nil {
		return nil, err
	}
	f, err := openFilesystem(id.fsid)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	return openSubvolume(f, topLevelID)
}

func newMount(f *os.File, id uint64) (*privateMount, error) {
	_, maxID, err := filesystemInfo(f)
	if err != nil {
		return nil, err
	}
	source, err := device(f, maxID)
	if err != nil {
		return nil, err
	}
	readOnly, err := isReadOnly(f)
	if err != nil {
		return nil, err
	}
	fsfd, err := unix.Fsopen("btrfs", unix.FSOPEN_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("fsopen", err)
	}
	defer func() { _ = unix.Close(fsfd) }()
	err = errors.Join(
		unix.FsconfigSetString(fsfd, "source", source),
		unix.FsconfigSetString(fsfd, "subvolid", strconv.FormatUint(id, 10)),
	)
	if readOnly {
		// Asking for a writable mount of a filesystem that is read-only
		// would make it writable in every mount.
		err = errors.Join(err, unix.FsconfigSetFlag(fsfd, "ro"))
	}
	if err != nil {
		return nil, os.NewSyscallError("fsconfig", err)
	}
	if err := unix.FsconfigCreate(fsfd); err != nil {
		return nil, os.NewSyscallError("fsconfig", err)
	}
	attributes := unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NODEV | unix.MOUNT_ATTR_NOEXEC | unix.MOUNT_ATTR_NOATIME
	mfd, err := unix.Fsmount(fsfd, unix.FSMOUNT_CLOEXEC, attributes)
	if err != nil {
		return nil, os.NewSyscallError("fsmount", err)
	}
	root, err := openAt(mfd, ".", f.Name()+" (private mount)")
	if err != nil {
		return nil, errors.Join(err, unix.Close(mfd))
	}
	return &privateMount{root: root, fd: mfd}, nil
}

func (m *privateMount) Close() error {
	return errors.Join(m.root.Close(), os.NewSyscallError("close", unix.Close(m.fd)))
}

// isReadOnly says whether the whole filesystem, not only one mount of it, is
// read-only.
func isReadOnly(f *os.File) (bool, error) {
	var st unix.Statfs_t
	if err := unix.Fstatfs(int(f.Fd()), &st); err != nil {
		return false, &os.PathError{Op: "statfs", Path: f.Name(), Err: err}
	}
	if st.Flags&unix.ST_RDONLY == 0 {
		return false, nil
	}
	mounts, err := hostMounts()
	if err != nil {
		return false, err
	}
	m, err := mounts.of(f)
	if err != nil {
		return true, nil //nolint:nilerr // a mount that no table lists: the careful answer
	}
	return m.FilesystemReadOnly, nil
}

// openAt opens a directory below an open one, never through a symbolic link
// in its last element; label is what its errors call it.
func openAt(dir int, name, label string) (*os.File, error) {
	fd, err := unix.Openat(dir, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC|unix.O_NOFOLLOW, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: label, Err: err}
	}
	return os.NewFile(uintptr(fd), label), nil
}

// child opens a directory called name in dir.
func child(dir *os.File, name string) (*os.File, error) {
	return openAt(int(dir.Fd()), name, dir.Name()+"/"+name)
}

// makeChild opens a directory in dir and makes it where it is missing,
// readable by root only.
func makeChild(dir *os.File, name string) (*os.File, error) {
	err := unix.Mkdirat(int(dir.Fd()), name, 0o700)
	if err != nil && !errors.Is(err, unix.EEXIST) {
		return nil, &os.PathError{Op: "mkdir", Path: dir.Name() + "/" + name, Err: explain(err)}
	}
	return child(dir, name)
}

// openOurs opens the directory below the filesystem's top under which
// everything of ours lies. With create it is made where it is missing;
// otherwise that is fs.ErrNotFound.
func openOurs(top *os.File, create bool) (*os.File, error) {
	open := child
	if create {
		open = makeChild
	}
	dir, err := open(top, fs.BtrfsDir)
	if err != nil {
		return nil, notFound(err)
	}
	var st unix.Stat_t
	if err := unix.Fstat(int(dir.Fd()), &st); err != nil {
		return nil, errors.Join(os.NewSyscallError("fstat", err), dir.Close())
	}
	if st.Uid != 0 || st.Mode&0o077 != 0 {
		return nil, errors.Join(advice.With(fmt.Errorf("%s at the top of the filesystem is not root's alone (owner %d, mode %o), so it is not used", fs.BtrfsDir, st.Uid, st.Mode&0o7777),
			"a container that has the top of this filesystem mounted may have done that (chown -R): mount a subvolume there in place of the top; see what is in the directory, then: chown root:root and chmod 700"), dir.Close())
	}
	return dir, nil
}

// notFound adds fs.ErrNotFound to what the kernel says of a missing file.
func notFound(err error) error {
	if errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("%w: %w", fs.ErrNotFound, err)
	}
	return err
}
