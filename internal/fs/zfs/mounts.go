package zfs

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"unsafe"

	"snapd/internal/fs"
	"snapd/internal/proc"

	"golang.org/x/sys/unix"
)

// blkzname asks a volume's device for its dataset: BLKZNAME,
// _IOR(0x12, 125, char[256]).
const blkzname = 2<<30 | 256<<16 | 0x12<<8 | 125

// volumeOf is the volume of a block device, or of one of its partitions.
// ErrNotMine for every other device.
func volumeOf(device proc.Device) (string, error) {
	dir, err := filepath.EvalSymlinks(device.Sys())
	if err != nil {
		return "", fmt.Errorf("no such device: %w", fs.ErrNotMine)
	}
	if _, err := os.Stat(filepath.Join(dir, "partition")); err == nil {
		dir = filepath.Dir(dir)
	}
	node := filepath.Base(dir)
	if digits, ok := strings.CutPrefix(node, "zd"); !ok || !isNumber(digits) {
		return "", fmt.Errorf("it is no volume of ZFS: %w", fs.ErrNotMine)
	}
	f, err := os.Open("/dev/" + node)
	if err != nil {
		return "", fmt.Errorf("ask the volume for its name: %w", err)
	}
	defer func() { _ = f.Close() }()
	var name [256]byte
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, f.Fd(), blkzname, uintptr(unsafe.Pointer(&name))); errno != 0 {
		return "", &os.PathError{Op: "ask for the name of", Path: f.Name(), Err: errno}
	}
	text, _, _ := bytes.Cut(name[:], []byte{0})
	return string(text), nil
}

func isNumber(s string) bool {
	_, err := strconv.ParseUint(s, 10, 32)
	return err == nil
}
