package btrfs

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"time"

	"snapd/internal/advice"
	"snapd/internal/fs"
	"snapd/internal/fs/btrfs/btrfsstream"

	"golang.org/x/sys/unix"
)

// The kernel's log names the inode that a send could not read. It is closed to the
// agent, and forgets: so what the stream would have had next is read until a read
// fails as well. Files are sent in the order of their inodes.

const (
	extentDataKey  = 108 // BTRFS_EXTENT_DATA_KEY
	unreadableTime = 20 * time.Second
	unreadableStep = 1 << 20 // bytes that are read at once
)

// search is the part of a snapshot's tree where the file is.
type search struct {
	tree  uint64 // id of the subvolume
	since uint64 // transaction of the base: what is older is not sent
	inode uint64 // the first one to be looked at
	from  int64  // byte of that inode's data
}

// unreadable returns an error that names the file of a snapshot that cannot be
// read, nil when none is found in the time that there is.
func (d *Driver) unreadable(ctx context.Context, s fs.Snapshot, id identity, in search, at *btrfsstream.Frames) error {
	ctx, cancel := context.WithTimeout(ctx, unreadableTime)
	defer cancel()
	f, err := openFilesystem(id.fsid)
	if err != nil {
		return nil // this only adds to an error that is told
	}
	defer func() { _ = f.Close() }()
	root, _, err := openSnapshot(f, id, s)
	if err != nil {
		return nil
	}
	defer func() { _ = root.Close() }()
	in.inode = firstFreeObjectID + 1
	file, offset := at.At()
	var st unix.Stat_t
	if file != "" && unix.Fstatat(int(root.Fd()), file, &st, unix.AT_SYMLINK_NOFOLLOW) == nil {
		in.inode, in.from = st.Ino, offset
	}
	name, offset, found := in.unreadable(ctx, root)
	if !found {
		return nil
	}
	return advice.With(fmt.Errorf("%w: %s in snapshot %s cannot be read at byte %d: %w", fs.ErrUnreadable, path.Join(s.Dataset.Name, name), s.Name, offset, unix.EIO),
		"copy that file from an earlier restore point or delete it, take a new point, and drop those that have it damaged (snapd drop); btrfs scrub start -B finds what else is damaged")
}

// unreadable finds the first file that cannot be read, and where.
func (in search) unreadable(ctx context.Context, root *os.File) (name string, offset int64, found bool) {
	for {
		inodes, err := in.next(root)
		if err != nil || len(inodes) == 0 {
			return "", 0, false
		}
		for _, inode := range inodes {
			_, name, err := inoLookup(root, in.tree, inode)
			if err != nil {
				continue
			}
			from := int64(0)
			if inode == in.inode {
				from = in.from
			}
			if at, err := readThrough(ctx, root, name, from); errors.Is(err, unix.EIO) {
				return name, at, true
			}
			if ctx.Err() != nil {
				return "", 0, false
			}
		}
		in.inode, in.from = inodes[len(inodes)-1]+1, 0
	}
}

// next lists inodes with data that may be newer than the base, from one on.
func (in search) next(root *os.File) (inodes []uint64, err error) {
	const headerSize = 32 // btrfs_ioctl_search_header
	args := searchArgs{
		treeID: in.tree, minObjectID: in.inode, maxObjectID: ^uint64(0) - 256, minType: 0, maxType: extentDataKey,
		maxOffset: ^uint64(0), minTransID: in.since, maxTransID: ^uint64(0),
	}
	for len(inodes) == 0 {
		args.items = 4096
		if err := args.ask(root); err != nil {
			return nil, err
		}
		if args.items == 0 {
			return nil, nil
		}
		rest := args.buf[:]
		for range args.items {
			inode, offset := binary.NativeEndian.Uint64(rest[8:]), binary.NativeEndian.Uint64(rest[16:])
			kind, length := binary.NativeEndian.Uint32(rest[24:]), binary.NativeEndian.Uint32(rest[28:])
			rest = rest[headerSize+length:]
			if kind == extentDataKey && (len(inodes) == 0 || inodes[len(inodes)-1] != inode) {
				inodes = append(inodes, inode)
			}
			// Go on behind this item.
			args.minObjectID, args.minType, args.minOffset = inode, kind, offset+1
		}
	}
	return inodes, nil
}

// readThrough reads a file from a byte on, and returns the error that stops it and
// where it does.
func readThrough(ctx context.Context, root *os.File, name string, from int64) (at int64, err error) {
	fd, err := unix.Openat(int(root.Fd()), name, unix.O_RDONLY|unix.O_CLOEXEC|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return 0, err
	}
	f := os.NewFile(uintptr(fd), name)
	defer func() { _ = f.Close() }()
	buf := make([]byte, unreadableStep)
	for at = from; ctx.Err() == nil; {
		n, err := f.ReadAt(buf, at)
		at += int64(n)
		if errors.Is(err, io.EOF) {
			return at, nil
		}
		if err != nil {
			return at, err
		}
	}
	return at, ctx.Err()
}
