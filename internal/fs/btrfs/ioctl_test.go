package btrfs

import (
	"testing"

	"snapd/internal/fs/btrfs/btrfsstream"
)

// The numbers are those of linux/btrfs.h on x86-64; the size of each structure
// is part of its number.
func TestRequestNumbers(t *testing.T) {
	for _, c := range []struct {
		name      string
		got, want uintptr
	}{
		{"SNAP_CREATE_V2", iocSnapCreateV2, 0x50009417},
		{"SNAP_DESTROY", iocSnapDestroy, 0x5000940f},
		{"INO_LOOKUP", iocInoLookup, 0xd0009412},
		{"TREE_SEARCH", iocTreeSearch, 0xd0009411},
		{"SUBVOL_GETFLAGS", iocSubvolGetFlag, 0x80089419},
		{"SUBVOL_SETFLAGS", iocSubvolSetFlag, 0x4008941a},
		{"DEV_INFO", iocDevInfo, 0xd000941e},
		{"FS_INFO", iocFSInfo, 0x8400941f},
		{"SEND", iocSend, 0x40489426},
		{"QGROUP_CREATE", iocQgroupCreate, 0x4010942a},
		{"GET_SUBVOL_INFO", iocGetSubvolInfo, 0x81f8943c},
	} {
		if c.got != c.want {
			t.Errorf("%s: got %#x, want %#x", c.name, c.got, c.want)
		}
	}
}

func TestUUID(t *testing.T) {
	const text = "0f8fad5b-d9cb-469f-a165-70867728950e"
	u, err := btrfsstream.ParseUUID(text)
	if err != nil || u.String() != text {
		t.Errorf("got %v, %v; want %s", u, err, text)
	}
	for _, bad := range []string{"", text[1:], text + "0", "0f8fad5bxd9cb-469f-a165-70867728950e", "zf8fad5b-d9cb-469f-a165-70867728950e"} {
		if _, err := btrfsstream.ParseUUID(bad); err == nil {
			t.Errorf("%q is taken for a UUID", bad)
		}
	}
}
