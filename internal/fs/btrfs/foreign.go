package btrfs

import (
	"encoding/binary"
	"fmt"
	"os"
	"unsafe"

	"snapd/internal/fs/btrfs/btrfsstream"
)

// Where the kernel's btrfs_root_item has what is read here, in bytes. An item
// of before Linux 3.6 ends before the parent, and then there is none.
const (
	rootItemFlags  = 208
	rootItemParent = 263
)

// isReadOnlySnapshot tells whether subvolume id of the filesystem of f is
// read-only and was made from another one: what snapper, btrbk and their like
// keep. It needs no path to it, so that what is mounted over it is no matter.
func isReadOnlySnapshot(f *os.File, id uint64) (bool, error) {
	const headerSize = 32 // btrfs_ioctl_search_header
	args := searchArgs{
		treeID: rootTreeID, minObjectID: id, maxObjectID: id, minType: rootItemKey, maxType: rootItemKey,
		maxOffset: ^uint64(0), maxTransID: ^uint64(0), items: 1,
	}
	if err := ioctl(f, iocTreeSearch, unsafe.Pointer(&args)); err != nil {
		return false, fmt.Errorf("read what subvolume %d of %s is: %w", id, f.Name(), err)
	}
	if args.items == 0 {
		return false, nil // it was deleted just now
	}
	length := binary.NativeEndian.Uint32(args.buf[28:])
	return readOnlySnapshot(args.buf[headerSize : headerSize+length]), nil
}

func readOnlySnapshot(rootItem []byte) bool {
	var parent btrfsstream.UUID
	if len(rootItem) < rootItemParent+len(parent) {
		return false
	}
	copy(parent[:], rootItem[rootItemParent:])
	return binary.LittleEndian.Uint64(rootItem[rootItemFlags:])&rootReadOnly != 0 && !parent.IsZero()
}
