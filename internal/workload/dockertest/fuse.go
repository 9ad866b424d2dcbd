package dockertest

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// Fuse is a filesystem that this process answers for, until Hang is called: an
// empty directory. It is what sshfs or rclone are when their other end is gone.
type Fuse struct {
	dir    string
	device *os.File
	hangs  atomic.Bool
	ended  chan struct{}
}

// MountFuse mounts one at a directory.
func MountFuse(dir string) (*Fuse, error) {
	fd, err := unix.Open("/dev/fuse", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: "/dev/fuse", Err: err}
	}
	f := &Fuse{dir: dir, device: os.NewFile(uintptr(fd), "/dev/fuse"), ended: make(chan struct{})}
	options := fmt.Sprintf("fd=%d,rootmode=40000,user_id=0,group_id=0,allow_other", fd)
	if err := unix.Mount("away", dir, "fuse.rclone", 0, options); err != nil {
		return nil, errors.Join(&os.PathError{Op: "mount", Path: dir, Err: err}, f.device.Close())
	}
	go f.serve()
	return f, nil
}

// Hang has it answer nothing any more.
func (f *Fuse) Hang() { f.hangs.Store(true) }

// Close gives an error to all that wait for it, and unmounts it.
func (f *Fuse) Close() error {
	err := unix.Unmount(f.dir, unix.MNT_FORCE) // ends the connection, also where it is mounted elsewhere too
	if errors.Is(err, unix.EBUSY) {
		err = nil
	}
	if busy := unix.Unmount(f.dir, unix.MNT_DETACH); !errors.Is(busy, unix.EINVAL) {
		err = errors.Join(err, busy)
	}
	<-f.ended
	return errors.Join(err, f.device.Close())
}

// The kernel's calls that are answered: see linux/fuse.h.
const (
	fuseForget      = 2
	fuseGetattr     = 3
	fuseStatfs      = 17
	fuseInit        = 26
	fuseInterrupt   = 36
	fuseBatchForget = 42
)

func (f *Fuse) serve() {
	defer close(f.ended)
	in := make([]byte, 1<<20)
	for {
		n, err := unix.Read(int(f.device.Fd()), in)
		if errors.Is(err, unix.EINTR) || errors.Is(err, unix.ENOENT) {
			continue
		}
		if err != nil || n < 40 {
			return // unmounted
		}
		call, unique := binary.NativeEndian.Uint32(in[4:]), binary.NativeEndian.Uint64(in[8:])
		if call == fuseForget || call == fuseBatchForget || call == fuseInterrupt || f.hangs.Load() {
			continue
		}
		body, errno := answer(call, in[40:n])
		out := make([]byte, 16, 16+len(body))
		binary.NativeEndian.PutUint32(out, uint32(16+len(body)))
		binary.NativeEndian.PutUint32(out[4:], uint32(-int32(errno)))
		binary.NativeEndian.PutUint64(out[8:], unique)
		_, _ = unix.Write(int(f.device.Fd()), append(out, body...)) // the asker may be gone
	}
}

func answer(call uint32, asked []byte) ([]byte, unix.Errno) {
	switch call {
	case fuseInit:
		out := make([]byte, 64)
		binary.NativeEndian.PutUint32(out, 7)
		binary.NativeEndian.PutUint32(out[4:], min(31, binary.NativeEndian.Uint32(asked[4:])))
		binary.NativeEndian.PutUint32(out[20:], 4096) // max_write
		return out, 0
	case fuseGetattr:
		out := make([]byte, 104)
		attr := out[16:]
		binary.NativeEndian.PutUint64(attr, 1)                       // ino
		binary.NativeEndian.PutUint32(attr[60:], unix.S_IFDIR|0o755) // mode
		binary.NativeEndian.PutUint32(attr[64:], 2)                  // nlink
		return out, 0
	case fuseStatfs:
		return make([]byte, 80), 0
	}
	return nil, unix.ENOSYS
}
