package btrfs

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"os"
	"runtime"
	"time"
	"unsafe"

	"snapd/internal/fs/btrfs/btrfsstream"

	"golang.org/x/sys/unix"
)

// Numbers of the kernel's linux/btrfs.h and btrfs_tree.h.
const (
	firstFreeObjectID = 256 // inode of the root directory of every subvolume
	topLevelID        = 5   // id of the subvolume at the filesystem's top

	subvolReadOnly = 1 << 1 // BTRFS_SUBVOL_RDONLY, in arguments
	rootReadOnly   = 1 << 0 // BTRFS_ROOT_SUBVOL_RDONLY, in subvolume info

	subvolNameMax = 255 // bytes
	lookupPathMax = 4080
)

// Sizes are those of the kernel's structures, in bytes.
var (
	iocSnapCreateV2  = ioc(iocWrite, 23, unsafe.Sizeof(volArgsV2{}))
	iocSnapDestroy   = ioc(iocWrite, 15, unsafe.Sizeof(volArgs{}))
	iocInoLookup     = ioc(iocRead|iocWrite, 18, unsafe.Sizeof(inoLookupArgs{}))
	iocTreeSearch    = ioc(iocRead|iocWrite, 17, unsafe.Sizeof(searchArgs{}))
	iocSubvolGetFlag = ioc(iocRead, 25, 8)
	iocSubvolSetFlag = ioc(iocWrite, 26, 8)
	iocDevInfo       = ioc(iocRead|iocWrite, 30, unsafe.Sizeof(devInfoArgs{}))
	iocFSInfo        = ioc(iocRead, 31, unsafe.Sizeof(fsInfoArgs{}))
	iocSend          = ioc(iocWrite, 38, unsafe.Sizeof(sendArgs{}))
	iocQgroupCreate  = ioc(iocWrite, 42, unsafe.Sizeof(qgroupArgs{}))
	iocGetDevStats   = ioc(iocRead|iocWrite, 52, unsafe.Sizeof(devStatsArgs{}))
	iocGetSubvolInfo = ioc(iocRead, 60, unsafe.Sizeof(subvolInfoArgs{}))
)

const (
	iocWrite = 1
	iocRead  = 2
)

// ioc is the kernel's _IOC for the type 0x94 that belongs to Btrfs.
func ioc(direction, number, size uintptr) uintptr {
	return direction<<30 | size<<16 | 0x94<<8 | number
}

type volArgs struct { // btrfs_ioctl_vol_args
	fd   int64
	name [4088]byte
}

type volArgsV2 struct { // btrfs_ioctl_vol_args_v2
	fd      int64
	transid uint64
	flags   uint64
	unused  [4]uint64
	name    [4040]byte
}

type inoLookupArgs struct { // btrfs_ioctl_ino_lookup_args
	treeID   uint64
	objectID uint64
	name     [lookupPathMax]byte
}

type devInfoArgs struct { // btrfs_ioctl_dev_info_args
	devID      uint64
	uuid       btrfsstream.UUID
	bytesUsed  uint64
	totalBytes uint64
	fsid       btrfsstream.UUID
	unused     [377]uint64
	path       [1024]byte
}

type devStatsArgs struct { // btrfs_ioctl_get_dev_stats
	devID  uint64
	items  uint64
	flags  uint64
	values devStats
	unused [121]uint64
}

const devStatsItems = uint64(unsafe.Sizeof(devStats{}) / 8)

func (a *devStatsArgs) ask(f *os.File) error { return ioctl(f, iocGetDevStats, unsafe.Pointer(a)) }
func (a *devInfoArgs) ask(f *os.File) error  { return ioctl(f, iocDevInfo, unsafe.Pointer(a)) }
func (a *searchArgs) ask(f *os.File) error   { return ioctl(f, iocTreeSearch, unsafe.Pointer(a)) }

type fsInfoArgs struct { // btrfs_ioctl_fs_info_args
	maxID      uint64
	numDevices uint64
	fsid       btrfsstream.UUID
	rest       [124]uint64
}

type sendArgs struct { // btrfs_ioctl_send_args
	sendFD            int64
	cloneSourcesCount uint64
	cloneSources      *uint64
	parentRoot        uint64
	flags             uint64
	version           uint32
	reserved          [28]byte
}

type qgroupArgs struct { // btrfs_ioctl_qgroup_create_args
	create uint64
	id     uint64
}

type kernelTime struct { // btrfs_ioctl_timespec
	sec  uint64
	nsec uint32
	_    uint32
}

func (t kernelTime) utc() time.Time {
	return time.Unix(int64(t.sec), int64(t.nsec)).UTC()
}

type subvolInfoArgs struct { // btrfs_ioctl_get_subvol_info_args
	treeID       uint64
	name         [subvolNameMax + 1]byte
	parentID     uint64
	dirID        uint64
	generation   uint64
	flags        uint64
	uuid         btrfsstream.UUID
	parentUUID   btrfsstream.UUID
	receivedUUID btrfsstream.UUID
	ctransid     uint64
	otransid     uint64
	stransid     uint64
	rtransid     uint64
	ctime        kernelTime
	otime        kernelTime
	stime        kernelTime
	rtime        kernelTime
	reserved     [8]uint64
}

// ioctl calls the kernel once; arg points to one of the structures above.
func ioctl(f *os.File, request uintptr, arg unsafe.Pointer) error {
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, f.Fd(), request, uintptr(arg))
	runtime.KeepAlive(f)
	if errno != 0 {
		return errno
	}
	return nil
}

func cString(b []byte) string {
	if end := bytes.IndexByte(b, 0); end >= 0 {
		b = b[:end]
	}
	return string(b)
}

// subvolInfo describes the subvolume that f lies in. One that was deleted since
// f was opened is fs.ErrNotFound.
func subvolInfo(f *os.File) (subvolInfoArgs, error) {
	var args subvolInfoArgs
	if err := ioctl(f, iocGetSubvolInfo, unsafe.Pointer(&args)); err != nil {
		return args, fmt.Errorf("read what subvolume %s is: %w", f.Name(), notFound(err))
	}
	return args, nil
}

// inoLookup returns the id of a subvolume (tree; 0 means the one that f lies
// in) and the path of one of its inodes below its root ("" for the root).
func inoLookup(f *os.File, tree, inode uint64) (id uint64, path string, err error) {
	args := inoLookupArgs{treeID: tree, objectID: inode}
	if err := ioctl(f, iocInoLookup, unsafe.Pointer(&args)); err != nil {
		return 0, "", fmt.Errorf("look up inode %d of %s: %w", inode, f.Name(), err)
	}
	path = cString(args.name[:])
	if n := len(path); n > 0 && path[n-1] == '/' {
		path = path[:n-1]
	}
	return args.treeID, path, nil
}

// filesystemInfo returns the filesystem's identity and its largest device id.
func filesystemInfo(f *os.File) (fsid btrfsstream.UUID, maxID uint64, err error) {
	var args fsInfoArgs
	if err := ioctl(f, iocFSInfo, unsafe.Pointer(&args)); err != nil {
		return btrfsstream.UUID{}, 0, fmt.Errorf("read the filesystem's identity at %s: %w", f.Name(), err)
	}
	return args.fsid, args.maxID, nil
}

// device returns a path of one of the filesystem's devices.
func device(f *os.File, maxID uint64) (string, error) {
	for id := uint64(1); id <= maxID; id++ {
		args := devInfoArgs{devID: id}
		if err := ioctl(f, iocDevInfo, unsafe.Pointer(&args)); err != nil {
			continue // ids have gaps where devices were removed
		}
		path := cString(args.path[:])
		if info, err := os.Stat(path); err == nil && info.Mode()&os.ModeDevice != 0 {
			return path, nil
		}
	}
	return "", fmt.Errorf("no device node for the filesystem at %s: its devices are gone from /dev, or the agent's sandbox hides them", f.Name())
}

// snapshotArgs are made before the window and used in it.
func snapshotArgs(source *os.File, name string, flags uint64) (*volArgsV2, error) {
	if len(name) > subvolNameMax {
		return nil, fmt.Errorf("name %q has more than %d bytes", name, subvolNameMax)
	}
	args := &volArgsV2{fd: int64(source.Fd()), flags: flags}
	copy(args.name[:], name)
	return args, nil
}

// snapshot makes a subvolume in dir from the one in args.
func snapshot(dir *os.File, args *volArgsV2) error {
	return ioctl(dir, iocSnapCreateV2, unsafe.Pointer(args))
}

// destroy removes the subvolume called name in dir.
func destroy(dir *os.File, name string) error {
	var args volArgs
	if len(name) > subvolNameMax {
		return fmt.Errorf("name %q has more than %d bytes", name, subvolNameMax)
	}
	copy(args.name[:], name)
	return ioctl(dir, iocSnapDestroy, unsafe.Pointer(&args))
}

// setReadOnly makes the subvolume with root f read-only.
func setReadOnly(f *os.File) error {
	var flags uint64
	if err := ioctl(f, iocSubvolGetFlag, unsafe.Pointer(&flags)); err != nil {
		return fmt.Errorf("read the flags of %s: %w", f.Name(), err)
	}
	flags |= subvolReadOnly
	if err := ioctl(f, iocSubvolSetFlag, unsafe.Pointer(&flags)); err != nil {
		return fmt.Errorf("make %s read-only: %w", f.Name(), err)
	}
	return nil
}

// removeQgroup removes the level-0 qgroup of a subvolume that is gone.
func removeQgroup(dir *os.File, id uint64) error {
	args := qgroupArgs{create: 0, id: id}
	return ioctl(dir, iocQgroupCreate, unsafe.Pointer(&args))
}

// The tree of tree roots has, for every subvolume inside another, a
// reference from the outer one.
const (
	rootTreeID  = 1
	rootItemKey = 132
	rootRefKey  = 156
	searchSpace = 4096 - 104
)

type searchArgs struct { // btrfs_ioctl_search_args
	treeID                   uint64
	minObjectID, maxObjectID uint64
	minOffset, maxOffset     uint64
	minTransID, maxTransID   uint64
	minType, maxType         uint32
	items                    uint32
	_                        uint32
	_                        [4]uint64
	buf                      [searchSpace]byte
}

// inner is a subvolume that lies directly inside another.
type inner struct {
	id   uint64
	path string // below the outer one's root
}

// innerSubvolumes lists the subvolumes directly inside subvolume id, anywhere
// on the filesystem of f.
func innerSubvolumes(f *os.File, id uint64) ([]inner, error) {
	const headerSize, refSize = 32, 18 // btrfs_ioctl_search_header, btrfs_root_ref
	var found []inner
	args := searchArgs{
		treeID: rootTreeID, minObjectID: id, maxObjectID: id, minType: rootRefKey, maxType: rootRefKey,
		maxOffset: ^uint64(0), maxTransID: ^uint64(0),
	}
	for {
		args.items = 4096
		if err := ioctl(f, iocTreeSearch, unsafe.Pointer(&args)); err != nil {
			return nil, fmt.Errorf("list subvolumes inside subvolume %d of %s: %w", id, f.Name(), err)
		}
		if args.items == 0 {
			return found, nil
		}
		rest := args.buf[:]
		for range args.items {
			child := binary.NativeEndian.Uint64(rest[16:])
			length := binary.NativeEndian.Uint32(rest[28:])
			ref := rest[headerSize : headerSize+length]
			rest = rest[headerSize+length:]
			if len(ref) < refSize {
				return nil, fmt.Errorf("list subvolumes inside subvolume %d of %s: reference of %d bytes", id, f.Name(), length)
			}
			_, dir, err := inoLookup(f, id, binary.LittleEndian.Uint64(ref))
			if err != nil {
				return nil, err
			}
			name := string(ref[refSize:])
			if dir != "" {
				name = dir + "/" + name
			}
			found = append(found, inner{id: child, path: name})
			args.minOffset = child + 1
		}
	}
}

// isReadOnlySnapshot is readOnlySnapshot of subvolume id on the filesystem of f.
// It needs no path to it, so that what is mounted over it is no matter.
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
