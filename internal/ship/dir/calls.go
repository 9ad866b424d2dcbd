package dir

import (
	"errors"
	"fmt"
	"os"
	"path"
	"syscall"

	"snapd/internal/advice"

	"golang.org/x/sys/unix"
)

// calls are what filesystems do differently. Tests script them, for the
// filesystems that the host at hand does not have.
type calls struct {
	link       func(root *os.Root, old, name string) error
	renameNew  func(root *os.Root, old, name string) error // fails with EEXIST when name is taken
	syncFolder func(folder *os.File) error
	syncAll    func(folder *os.File) error // the whole filesystem
}

func systemCalls() calls {
	return calls{
		link:       func(root *os.Root, old, name string) error { return root.Link(old, name) },
		renameNew:  renameNew,
		syncFolder: (*os.File).Sync,
		syncAll:    func(folder *os.File) error { return unix.Syncfs(int(folder.Fd())) },
	}
}

func renameNew(root *os.Root, old, name string) (err error) {
	from, err := root.Open(path.Dir(old))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, from.Close()) }()
	to, err := root.Open(path.Dir(name))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, to.Close()) }()
	return unix.Renameat2(int(from.Fd()), path.Base(old), int(to.Fd()), path.Base(name), unix.RENAME_NOREPLACE)
}

// lacksCall tells whether a filesystem does not know a call. The numbers differ
// from one to the next.
func lacksCall(err error) bool {
	for _, no := range []syscall.Errno{syscall.EPERM, syscall.EOPNOTSUPP, syscall.ENOSYS, syscall.EINVAL, syscall.EMLINK} {
		if errors.Is(err, no) {
			return true
		}
	}
	return false
}

// nameIfAbsent gives a file its name unless that is taken, in one step: by a
// hard link, or where the filesystem has none (FAT, some network ones), by a
// rename that replaces nothing. Where it has neither, two hosts could overwrite
// each other's commits, so that none is made.
func (s *Store) nameIfAbsent(root *os.Root, aside, key string) error {
	err := s.calls.link(root, aside, key)
	if !lacksCall(err) {
		return err
	}
	rerr := s.calls.renameNew(root, aside, key)
	if !lacksCall(rerr) {
		return rerr
	}
	// Not wrapped: EPERM is not that a right is lacking here.
	return advice.With(fmt.Errorf("the filesystem of %s can give a file a name that may be taken neither by a link (%s) nor by a rename (%s)", s.root, err.Error(), rerr.Error()),
		"put the repository on another filesystem, such as ext4, XFS, Btrfs, ZFS or NFS")
}

// syncFolder makes the names in a folder durable. Filesystems that cannot do so
// for one folder are asked to write everything; those that cannot do that
// either promise nothing, and have nothing to be asked for.
func (s *Store) syncFolder(root *os.Root, folder string) error {
	d, err := root.Open(folder)
	if err != nil {
		return err
	}
	err = s.calls.syncFolder(d)
	if lacksCall(err) {
		if err = s.calls.syncAll(d); lacksCall(err) {
			err = nil
		}
	}
	return errors.Join(err, d.Close())
}
