package inside

import (
	"errors"
	"fmt"
	iofs "io/fs"
	"os"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// describe gives a copy the owner, rights, attributes and times of what it is of.
func (c *copying) describe(from, to spot, st *syscall.Stat_t) error {
	dir := int(to.dir.Fd())
	var now unix.Stat_t
	if err := unix.Fstatat(dir, to.name, &now, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return err
	}
	if now.Uid != st.Uid || now.Gid != st.Gid {
		if err := unix.Fchownat(dir, to.name, int(st.Uid), int(st.Gid), unix.AT_SYMLINK_NOFOLLOW); err != nil {
			return os.NewSyscallError("chown", err)
		}
	}
	if st.Mode&unix.S_IFMT != unix.S_IFLNK {
		if err := os.Chmod(to.at(), iofs.FileMode(st.Mode&0o777)|special(st.Mode)); err != nil {
			return err
		}
	}
	if err := c.attributes(from.at(), to.at()); err != nil {
		return err
	}
	times := []unix.Timespec{unix.Timespec(st.Atim), unix.Timespec(st.Mtim)}
	return os.NewSyscallError("utimensat", unix.UtimesNanoAt(dir, to.name, times, unix.AT_SYMLINK_NOFOLLOW))
}

func special(mode uint32) (out iofs.FileMode) {
	for bit, m := range map[uint32]iofs.FileMode{unix.S_ISUID: iofs.ModeSetuid, unix.S_ISGID: iofs.ModeSetgid, unix.S_ISVTX: iofs.ModeSticky} {
		if mode&bit != 0 {
			out |= m
		}
	}
	return out
}

// attributes copies extended attributes and lists of rights, and takes away those
// that the folder above the copy gave it. A filesystem that keeps none is no fault.
func (c *copying) attributes(from, to string) error {
	want, err := attributeNames(from)
	if err != nil {
		return err
	}
	have, err := attributeNames(to)
	if err != nil {
		return err
	}
	for _, key := range have {
		if strings.HasPrefix(key, "system.posix_acl_") {
			_ = unix.Lremovexattr(to, key) // set again below, if it was there
		}
	}
	for _, key := range want {
		value := make([]byte, 64<<10)
		n, err := unix.Lgetxattr(from, key, value)
		if err != nil {
			return fmt.Errorf("read the attribute %s: %w", key, err)
		}
		err = unix.Lsetxattr(to, key, value[:n], 0)
		switch {
		case errors.Is(err, unix.ENOTSUP) || errors.Is(err, unix.EPERM):
			c.lose("the attribute " + key)
		case err != nil:
			return fmt.Errorf("set the attribute %s: %w", key, err)
		}
	}
	return nil
}

func (c *copying) lose(what string) {
	if !c.lost[what] {
		c.lost[what] = true
		c.out.Lost = append(c.out.Lost, what)
	}
}

func attributeNames(at string) ([]string, error) {
	size, err := unix.Llistxattr(at, nil)
	if errors.Is(err, unix.ENOTSUP) || err == nil && size == 0 {
		return nil, nil
	}
	if err != nil {
		return nil, os.NewSyscallError("listxattr", err)
	}
	text := make([]byte, size)
	if size, err = unix.Llistxattr(at, text); err != nil {
		return nil, os.NewSyscallError("listxattr", err)
	}
	return strings.Split(strings.TrimSuffix(string(text[:size]), "\x00"), "\x00"), nil
}
