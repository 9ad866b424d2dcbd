package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

// A process of the program that is really killed, at any of its effects: calls
// of the kernel that change a name, make a file durable, or make or delete a
// snapshot. The kernel stops each of them (a filter that tells user space) and
// this process looks at it before it happens, so that nothing of the program
// has to know.
const (
	envKillAt  = "SNAPD_TEST_KILL_AT" // at which effect it dies; 0: at none
	envEffects = "SNAPD_TEST_EFFECTS" // file that is told of the last one, and of how many there were
	snapCreate = 0x50009417           // BTRFS_IOC_SNAP_CREATE_V2
	snapDelete = 0x5000940f           // BTRFS_IOC_SNAP_DESTROY
	cloneFlags = unix.SECCOMP_FILTER_FLAG_NEW_LISTENER | unix.SECCOMP_FILTER_FLAG_TSYNC | unix.SECCOMP_FILTER_FLAG_TSYNC_ESRCH
)

// effectCalls are these calls, with the place of the argument that is a name.
func effectCalls() map[uint32]int {
	return map[uint32]int{
		unix.SYS_RENAMEAT: 3, unix.SYS_RENAMEAT2: 3, unix.SYS_LINKAT: 3, unix.SYS_UNLINKAT: 1, unix.SYS_MKDIRAT: 1,
		unix.SYS_FSYNC: -1, unix.SYS_FDATASYNC: -1, unix.SYS_FTRUNCATE: -1,
	}
}

// notification is struct seccomp_notif, reply struct seccomp_notif_resp.
type notification struct {
	id         uint64
	pid, flags uint32
	call       int32
	arch       uint32
	at         uint64
	args       [6]uint64
}

type reply struct {
	id    uint64
	value int64
	fault int32
	flags uint32
}

// mortal has this process die at an effect, if its environment says so. The
// function that it returns tells how many there were.
func mortal() (count func()) {
	at := 0
	if _, err := fmt.Sscan(os.Getenv(envKillAt), &at); err != nil {
		return func() {}
	}
	listener, err := listenToEffects()
	if err != nil {
		fmt.Fprintln(os.Stderr, "listen to effects:", err)
		os.Exit(1)
	}
	tell := func(text string) { _ = os.WriteFile(os.Getenv(envEffects), []byte(text), 0o600) }
	var seen atomic.Int64
	go func() {
		for {
			n := notification{}
			if control(listener, unix.SECCOMP_IOCTL_NOTIF_RECV, unsafe.Pointer(&n)) != nil {
				continue // interrupted
			}
			if seen.Add(1) == int64(at) {
				tell(effectText(n))
				_ = unix.Kill(os.Getpid(), unix.SIGKILL)
				select {}
			}
			r := reply{id: n.id, flags: unix.SECCOMP_USER_NOTIF_FLAG_CONTINUE}
			_ = control(listener, unix.SECCOMP_IOCTL_NOTIF_SEND, unsafe.Pointer(&r))
		}
	}()
	return func() { tell(fmt.Sprint(seen.Load())) }
}

// listenToEffects has the kernel ask before each effect of any thread.
func listenToEffects() (listener int, err error) {
	const (
		call, arch, arg1 = 0, 4, 24 // in struct seccomp_data
		load             = unix.BPF_LD | unix.BPF_W | unix.BPF_ABS
		equal            = unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K
		end              = unix.BPF_RET | unix.BPF_K
	)
	f := []unix.SockFilter{{Code: load, K: call}}
	for nr := range effectCalls() {
		f = append(f, unix.SockFilter{Code: equal, K: nr, Jf: 1}, unix.SockFilter{Code: end, K: unix.SECCOMP_RET_USER_NOTIF})
	}
	f = append(f, unix.SockFilter{Code: equal, K: unix.SYS_IOCTL, Jt: 1}, unix.SockFilter{Code: end, K: unix.SECCOMP_RET_ALLOW},
		unix.SockFilter{Code: load, K: arg1})
	for _, nr := range []uint32{snapCreate, snapDelete} {
		f = append(f, unix.SockFilter{Code: equal, K: nr, Jf: 1}, unix.SockFilter{Code: end, K: unix.SECCOMP_RET_USER_NOTIF})
	}
	f = append(f, unix.SockFilter{Code: end, K: unix.SECCOMP_RET_ALLOW})
	program := unix.SockFprog{Len: uint16(len(f)), Filter: &f[0]}
	fd, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, cloneFlags, uintptr(unsafe.Pointer(&program)))
	runtime.KeepAlive(f)
	if errno != 0 {
		return 0, errno
	}
	return int(fd), nil
}

func control(fd int, request uintptr, arg unsafe.Pointer) error {
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), request, uintptr(arg)); errno != 0 {
		return errno
	}
	return nil
}

// effectText says what is about to happen.
func effectText(n notification) string {
	names := map[uint32]string{
		unix.SYS_RENAMEAT: "rename to", unix.SYS_RENAMEAT2: "rename to", unix.SYS_LINKAT: "link to", unix.SYS_UNLINKAT: "remove",
		unix.SYS_MKDIRAT: "make folder", unix.SYS_FSYNC: "sync", unix.SYS_FDATASYNC: "sync", unix.SYS_FTRUNCATE: "truncate",
	}
	nr := uint32(n.call)
	if nr == unix.SYS_IOCTL {
		return map[bool]string{true: "make a snapshot", false: "delete a snapshot"}[n.args[1] == snapCreate]
	}
	file := func(fd uint64) string {
		name, _ := os.Readlink(fmt.Sprintf("/proc/%d/fd/%d", n.pid, int32(fd)))
		return name
	}
	at := effectCalls()[nr]
	if at < 0 {
		return names[nr] + " " + file(n.args[0])
	}
	name, err := textOf(n.pid, n.args[at])
	if err != nil {
		name = err.Error()
	}
	return names[nr] + " " + filepath.Join(file(n.args[at-1]), name)
}

// textOf reads a name in the memory of a process.
func textOf(pid uint32, at uint64) (string, error) {
	mem, err := os.Open(fmt.Sprintf("/proc/%d/mem", pid))
	if err != nil {
		return "", err
	}
	defer mem.Close()
	text := make([]byte, 256)
	n, err := mem.ReadAt(text, int64(at))
	if n == 0 {
		return "", errors.Join(err, errors.ErrUnsupported)
	}
	text, _, _ = bytes.Cut(text[:n], []byte{0})
	return string(text), nil
}
