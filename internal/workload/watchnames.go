package workload

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"strconv"

	"snapd/internal/fs"

	"golang.org/x/sys/unix"
)

// nameWatch sees names that are made, moved and removed on one filesystem. The
// kernel tells of these only by handles of directories (fanotify(7)).
type nameWatch struct {
	fd    int
	top   *os.File // of a filesystem with subvolumes, which can be watched only from there; nil for others
	path  string   // on that filesystem
	spots []namedSpot
}

// namedSpot is a spot of the group as handles show it.
type namedSpot struct {
	owned
	handle unix.FileHandle
	whole  bool // all of its dataset belongs to the group
}

const nameChanges = unix.FAN_CREATE | unix.FAN_DELETE | unix.FAN_MOVED_FROM | unix.FAN_MOVED_TO | unix.FAN_ONDIR

// watchNames prepares for the filesystem that a spot of the group lies on.
func (r *Reach) watchNames(ctx context.Context, on owned) (nameWatch, error) {
	n := nameWatch{fd: -1, path: on.path}
	for _, s := range r.spots {
		if s.dev != on.dev {
			continue
		}
		handle, _, err := unix.NameToHandleAt(unix.AT_FDCWD, s.path, 0)
		if err != nil {
			return n, fmt.Errorf("handle of %s: %w", s.path, err)
		}
		inode, _, btrfs := btrfsHandle(handle)
		n.spots = append(n.spots, namedSpot{owned: s, handle: handle, whole: s.root == "/" && !btrfs || btrfs && inode == btrfsTop})
	}
	var err error
	if n.top, err = r.openTop(ctx, on.dataset); err != nil {
		return n, err
	}
	n.fd, err = unix.FanotifyInit(unix.FAN_CLASS_NOTIF|unix.FAN_REPORT_DIR_FID|unix.FAN_CLOEXEC|unix.FAN_NONBLOCK, unix.O_RDONLY|unix.O_CLOEXEC|unix.O_LARGEFILE)
	if err == nil {
		// Tried now: in the window it is no time for errors.
		if err = n.begin(); err == nil {
			err = unix.FanotifyMark(n.fd, unix.FAN_MARK_FLUSH|unix.FAN_MARK_FILESYSTEM, 0, unix.AT_FDCWD, "/")
		}
	}
	if err != nil {
		n.close()
	}
	return n, err
}

// openTop gives nil where a filesystem has no other top than that of the dataset.
func (r *Reach) openTop(ctx context.Context, d fs.Dataset) (*os.File, error) {
	for _, driver := range r.drivers {
		opener, ok := driver.(fs.TopOpener)
		if !ok {
			continue
		}
		if top, err := opener.OpenTop(ctx, d); !errors.Is(err, fs.ErrNotMine) {
			return top, err
		}
	}
	return nil, nil //nolint:nilnil // as it says
}

func (n nameWatch) begin() error {
	at, path := unix.AT_FDCWD, n.path
	if n.top != nil {
		at, path = int(n.top.Fd()), "."
	}
	err := unix.FanotifyMark(n.fd, unix.FAN_MARK_ADD|unix.FAN_MARK_FILESYSTEM|unix.FAN_MARK_DONT_FOLLOW, nameChanges, at, path)
	return os.NewSyscallError("fanotify_mark", err)
}

func (n nameWatch) close() {
	_ = unix.Close(n.fd)
	if n.top != nil {
		_ = n.top.Close() // only looked at
	}
}

// named adds the process of an event to a list when the directory in which it
// changed a name is the group's.
func (r *Reach) named(list []Process, n nameWatch, e unix.FanotifyEventMetadata, more []byte) []Process {
	handle, ok := directoryOf(more)
	if !ok || int(e.Pid) == os.Getpid() {
		return list
	}
	p, _ := processOf(int(e.Pid)) // when it has ended, it wrote all the same
	for _, s := range n.spots {
		if n.has(s, handle) {
			list = r.holder(list, openFile{process: p, spot: s.spot, inodes: s.inodes})
		}
	}
	return list
}

// directoryOf is the handle of the directory that an event tells of.
func directoryOf(more []byte) (unix.FileHandle, bool) {
	const head, fsid, handleHead = 4, 8, 8
	order := binary.NativeEndian
	for len(more) >= head {
		kind, size := more[0], int(order.Uint16(more[2:]))
		if size < head || size > len(more) {
			break
		}
		if kind == unix.FAN_EVENT_INFO_TYPE_DFID && size >= head+fsid+handleHead {
			at := more[head+fsid : size]
			if length := int(order.Uint32(at)); length <= len(at)-handleHead {
				return unix.NewFileHandle(int32(order.Uint32(at[4:])), at[handleHead:handleHead+length]), true
			}
		}
		more = more[size:]
	}
	return unix.FileHandle{}, false
}

// has tells whether a directory is a spot's or lies below it. Where the way to it
// cannot be asked for, it is none of it, unless all of the dataset is the group's:
// others work in the same dataset all the time.
func (n nameWatch) has(s namedSpot, directory unix.FileHandle) bool {
	_, subvolume, btrfs := btrfsHandle(directory)
	if _, own, _ := btrfsHandle(s.handle); btrfs && own != subvolume {
		return false
	}
	if s.whole || s.handle.Type() == directory.Type() && bytes.Equal(s.handle.Bytes(), directory.Bytes()) {
		return true
	}
	top, root := n.top, s.root
	if top == nil {
		mount, err := os.OpenFile(s.path, unix.O_DIRECTORY, 0)
		if err != nil {
			return false
		}
		defer mount.Close() //nolint:errcheck // only looked at
		if root, err = os.Readlink(descriptorPath(int(mount.Fd()))); err != nil {
			return false
		}
		top = mount
	}
	fd, err := unix.OpenByHandleAt(int(top.Fd()), directory, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC)
	if err != nil {
		return false // the right to do so is missing, or it is gone
	}
	defer unix.Close(fd) //nolint:errcheck // only looked at
	// Of a mount that is attached nowhere the kernel says the path in it.
	way, err := os.Readlink(descriptorPath(fd))
	_, below := inside(root, way)
	return err == nil && below
}

func descriptorPath(fd int) string { return "/proc/self/fd/" + strconv.Itoa(fd) }

// btrfsTop is the inode of a subvolume's own directory.
const btrfsTop = 256

// btrfsHandle reads a handle as Btrfs makes it: struct btrfs_fid in the kernel's
// fs/btrfs/export.h.
func btrfsHandle(h unix.FileHandle) (inode, subvolume uint64, ok bool) {
	const alone, withParent, withParentElsewhere = 0x4d, 0x4e, 0x4f
	text, order := h.Bytes(), binary.NativeEndian
	if t := h.Type(); t != alone && t != withParent && t != withParentElsewhere || len(text) < 16 {
		return 0, 0, false
	}
	return order.Uint64(text), order.Uint64(text[8:]), true
}
