// Package hidden is a snapshot that is open for reading as a mount that no
// namespace shows: no other process sees it, and it goes with its last descriptor,
// also when this process is killed. It knows no storage: drivers make the mount, each
// in its own way, and hand it over.
package hidden

import (
	"errors"
	"fmt"
	"os"
	"sync"

	"snapd/internal/fs"

	iofs "io/fs"

	"golang.org/x/sys/unix"
)

// Mount implements fs.Opened.
type Mount struct {
	mu     sync.Mutex
	fd     int // of the mount itself; -1 when it is closed
	root   *os.Root
	absent func(iofs.FileInfo) bool
	done   func() error
}

var _ fs.Opened = (*Mount)(nil)

// safe is how every mount of ours is: nothing on it runs, is a device, has another
// user's rights, or changes.
const safe = unix.MOUNT_ATTR_RDONLY | unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NODEV | unix.MOUNT_ATTR_NOEXEC

// New takes a mount over, also when it fails. absent is what Absent says, nil where
// that is always no; done is called once, after the mount is closed, and may be nil.
func New(fd int, absent func(iofs.FileInfo) bool, done func() error) (*Mount, error) {
	m := &Mount{fd: fd, absent: absent, done: done}
	err := unix.MountSetattr(fd, "", unix.AT_EMPTY_PATH|unix.AT_RECURSIVE, &unix.MountAttr{Attr_set: safe})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("make the mount read-only: %w", err), m.Close())
	}
	if m.root, err = os.OpenRoot(fmt.Sprintf("/proc/self/fd/%d", fd)); err != nil {
		return nil, errors.Join(err, m.Close())
	}
	return m, nil
}

// Make makes a mount of a whole filesystem that no namespace shows. settings are
// words such as "norecovery"; each mount is made read-only.
func Make(kind, source string, settings ...string) (fd int, err error) {
	fsfd, err := unix.Fsopen(kind, unix.FSOPEN_CLOEXEC)
	if err != nil {
		return -1, fmt.Errorf("mount %s: %w", kind, os.NewSyscallError("fsopen", err))
	}
	defer func() { _ = unix.Close(fsfd) }()
	err = errors.Join(unix.FsconfigSetString(fsfd, "source", source), unix.FsconfigSetFlag(fsfd, "ro"))
	for _, word := range settings {
		err = errors.Join(err, unix.FsconfigSetFlag(fsfd, word))
	}
	if err == nil {
		err = unix.FsconfigCreate(fsfd)
	}
	if err != nil {
		return -1, fmt.Errorf("mount %s (%s): %w", source, kind, err)
	}
	fd, err = unix.Fsmount(fsfd, unix.FSMOUNT_CLOEXEC, safe)
	if err != nil {
		return -1, fmt.Errorf("mount %s (%s): %w", source, kind, os.NewSyscallError("fsmount", err))
	}
	return fd, nil
}

// Root implements fs.Opened.
func (m *Mount) Root() *os.Root { return m.root }

// Absent implements fs.Opened.
func (m *Mount) Absent(info iofs.FileInfo) bool { return m.absent != nil && m.absent(info) }

// Attach implements fs.Opened.
func (m *Mount) Attach(dir *os.File) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.fd < 0 {
		return os.ErrClosed
	}
	err := unix.MoveMount(m.fd, "", int(dir.Fd()), "", unix.MOVE_MOUNT_F_EMPTY_PATH|unix.MOVE_MOUNT_T_EMPTY_PATH)
	if err != nil {
		return fmt.Errorf("mount at %s: %w", dir.Name(), err)
	}
	return nil
}

// Close implements fs.Opened.
func (m *Mount) Close() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.fd < 0 {
		return nil
	}
	var err error
	if m.root != nil {
		err = m.root.Close()
	}
	err = errors.Join(err, os.NewSyscallError("close", unix.Close(m.fd)))
	m.fd = -1
	if m.done != nil {
		err = errors.Join(err, m.done())
	}
	return err
}
