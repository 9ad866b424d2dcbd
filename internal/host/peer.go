package host

import (
	"errors"
	"fmt"
	"net"
	"slices"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Peer is the process at the other end of a Unix socket, as it was when it
// connected. A process that changes its user afterwards changes nothing here.
type Peer struct {
	PID, UID, GID int
	Groups        []int // supplementary
}

// PeerOf asks the kernel. Nothing is read from /proc: the process may have ended,
// and its number may be another's by now.
func PeerOf(c *net.UnixConn) (Peer, error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return Peer{}, err
	}
	var p Peer
	var asked error
	err = raw.Control(func(fd uintptr) {
		var cred *unix.Ucred
		if cred, asked = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED); asked != nil {
			return
		}
		p.PID, p.UID, p.GID = int(cred.Pid), int(cred.Uid), int(cred.Gid)
		p.Groups, asked = peerGroups(int(fd))
	})
	if err = errors.Join(err, asked); err != nil {
		return Peer{}, fmt.Errorf("ask for the process at the other end: %w", err)
	}
	return p, nil
}

// Member tells whether the peer was in a group. The group of root counts as one
// without members: a socket that belongs to it is root's alone.
func (p Peer) Member(gid int) bool {
	return gid != 0 && (p.GID == gid || slices.Contains(p.Groups, gid))
}

// peerGroups asks for SO_PEERGROUPS, which x/sys has no call for.
func peerGroups(fd int) ([]int, error) {
	list := make([]uint32, 64)
	for {
		size := uint32(len(list)) * 4 // bytes
		_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(fd), unix.SOL_SOCKET, unix.SO_PEERGROUPS,
			uintptr(unsafe.Pointer(&list[0])), uintptr(unsafe.Pointer(&size)), 0) //nolint:gosec // how the kernel takes it
		n := int(size / 4)
		if errno == unix.ERANGE && n > len(list) { // size says how much it wants
			list = make([]uint32, n)
			continue
		}
		if errno != 0 {
			return nil, fmt.Errorf("getsockopt SO_PEERGROUPS: %w", errno)
		}
		out := make([]int, n)
		for i, g := range list[:n] {
			out[i] = int(g)
		}
		return out, nil
	}
}
