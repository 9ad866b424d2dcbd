package workload

import (
	"context"
	"fmt"
	"strings"

	"snapd/internal/proc"

	"golang.org/x/sys/unix"
)

// deleted ends the path of what was removed while it is mounted, in a mount table.
const deleted = "//deleted"

// replaced tells whether a mount is a single file that was removed on the host,
// where another file has its name by now: many programs write a file by renaming
// a new one over it. Of a directory that cannot be said: the container would go on
// writing into the old one.
func (r *resolver) replaced(ctx context.Context, c Container, target string, entry proc.Mount, source string) bool {
	was, removed := strings.CutSuffix(entry.Root, deleted)
	if !removed || source == "" {
		return false
	}
	real, err := r.names.real(ctx, source)
	if err != nil {
		return false
	}
	now, err := r.names.look(ctx, real)
	if err != nil || now.mode != unix.S_IFREG || now.dev != entry.Device || now.root != was {
		return false
	}
	file, err := look(ctx, r.names.looks, r.names.looks.limitOf(), entry.Device, source, func() (bool, error) { return isFileIn(c.Pid, target) })
	return err == nil && file
}

// isFileIn tells whether a path of a process leads to a file.
func isFileIn(pid int, path string) (bool, error) {
	root, err := unix.Open(fmt.Sprintf("/proc/%d/root", pid), unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return false, err
	}
	defer unix.Close(root) //nolint:errcheck // only a handle
	fd, err := unix.Openat2(root, path, &unix.OpenHow{
		Flags: unix.O_PATH | unix.O_CLOEXEC | unix.O_NOFOLLOW, Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS,
	})
	if err != nil {
		return false, err
	}
	defer unix.Close(fd) //nolint:errcheck // only a handle
	var st unix.Stat_t
	err = unix.Fstat(fd, &st)
	return st.Mode&unix.S_IFMT == unix.S_IFREG, err
}
