package btrfs

import (
	"encoding/binary"

	"snapd/internal/fs/btrfs/btrfsstream"
)

// Where the kernel's btrfs_root_item has what is read here, in bytes. An item
// of before Linux 3.6 ends before the parent, and then there is none.
const (
	rootItemFlags  = 208
	rootItemParent = 263
)

// readOnlySnapshot tells whether a root item is of a read-only subvolume that was
// made from another one: what snapper, btrbk and their like keep.
func readOnlySnapshot(rootItem []byte) bool {
	var parent btrfsstream.UUID
	if len(rootItem) < rootItemParent+len(parent) {
		return false
	}
	copy(parent[:], rootItem[rootItemParent:])
	return binary.LittleEndian.Uint64(rootItem[rootItemFlags:])&rootReadOnly != 0 && !parent.IsZero()
}
