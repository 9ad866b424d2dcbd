package fstest

import (
	"encoding/binary"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// maker makes files in a tree and fails the test where it cannot. What only root
// may make it leaves out where another user runs the test.
type maker struct {
	t    testing.TB
	dir  string
	fill *rand.ChaCha8
	root bool
}

func newMaker(t testing.TB, dir string, seed byte) *maker {
	return &maker{t: t, dir: dir, fill: rand.NewChaCha8([32]byte{seed}), root: os.Geteuid() == 0}
}

func (m *maker) path(name string) string { return m.dir + "/" + name }

func (m *maker) check(what, name string, err error) {
	m.t.Helper()
	if err != nil {
		m.t.Fatalf("%s %q: %v", what, m.path(name), err)
	}
}

// random is n bytes that do not compress, the same in each run.
func (m *maker) random(n int) []byte {
	b := make([]byte, n)
	_, _ = m.fill.Read(b) // never fails
	return b
}

func (m *maker) file(name string, data []byte) {
	m.t.Helper()
	m.check("write", name, os.WriteFile(m.path(name), data, 0o644))
}

func (m *maker) mkdir(name string) {
	m.t.Helper()
	m.check("mkdir", name, os.MkdirAll(m.path(name), 0o755))
}

func (m *maker) remove(name string) {
	m.t.Helper()
	_, err := os.Lstat(m.path(name))
	m.check("remove", name, err)
	m.check("remove", name, os.RemoveAll(m.path(name)))
}

func (m *maker) rename(from, to string) {
	m.t.Helper()
	m.check("rename", from, os.Rename(m.path(from), m.path(to)))
}

func (m *maker) symlink(target, name string) {
	m.t.Helper()
	m.check("symlink", name, os.Symlink(target, m.path(name)))
}

func (m *maker) link(from, to string) {
	m.t.Helper()
	m.check("link", to, os.Link(m.path(from), m.path(to)))
}

func (m *maker) node(name string, mode uint32, device uint64) {
	m.t.Helper()
	if kind := mode & unix.S_IFMT; !m.root && (kind == unix.S_IFCHR || kind == unix.S_IFBLK) {
		mode, device = unix.S_IFIFO|mode&0o777, 0
	}
	m.check("mknod", name, unix.Mknod(m.path(name), mode, int(device)))
}

func (m *maker) truncate(name string, size int64) {
	m.t.Helper()
	m.check("truncate", name, os.Truncate(m.path(name), size))
}

// writeAt puts data into a file and makes it where it is missing.
func (m *maker) writeAt(name string, data []byte, offset int64) {
	m.t.Helper()
	f, err := os.OpenFile(m.path(name), os.O_WRONLY|os.O_CREATE, 0o644)
	m.check("open", name, err)
	_, err = f.WriteAt(data, offset)
	m.check("write", name, err)
	m.check("close", name, f.Close())
}

func (m *maker) punch(name string, offset, length int64) {
	m.t.Helper()
	f, err := os.OpenFile(m.path(name), os.O_WRONLY, 0)
	m.check("open", name, err)
	m.check("punch a hole into", name, unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, offset, length))
	m.check("close", name, f.Close())
}

// clone makes a copy that shares its extents, where the filesystem can.
func (m *maker) clone(from, to string) {
	m.t.Helper()
	in, err := os.Open(m.path(from))
	m.check("open", from, err)
	out, err := os.OpenFile(m.path(to), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	m.check("create", to, err)
	if unix.IoctlFileClone(int(out.Fd()), int(in.Fd())) != nil {
		_, err := out.ReadFrom(in)
		m.check("copy", to, err)
	}
	m.check("close", from, in.Close())
	m.check("close", to, out.Close())
}

func (m *maker) chmod(name string, mode uint32) {
	m.t.Helper()
	if !m.root {
		mode |= 0o400 // or the test itself could not read it
	}
	m.check("chmod", name, unix.Chmod(m.path(name), mode))
}

func (m *maker) chown(name string, uid, gid int) {
	m.t.Helper()
	if !m.root {
		return
	}
	m.check("chown", name, os.Lchown(m.path(name), uid, gid))
}

func (m *maker) xattr(name, key, value string) {
	m.t.Helper()
	if !m.root && (strings.HasPrefix(key, "trusted.") || strings.HasPrefix(key, "security.")) {
		return
	}
	m.check("set "+key+" of", name, unix.Lsetxattr(m.path(name), key, []byte(value), 0))
}

func (m *maker) noXattr(name, key string) {
	m.t.Helper()
	m.check("remove "+key+" of", name, unix.Lremovexattr(m.path(name), key))
}

// acl gives one more user rights to a file, or with "default" to what is made
// in a directory.
func (m *maker) acl(name, which string, uid uint32, rights uint16) {
	m.t.Helper()
	const version, none = 2, 0xffffffff
	entries := []struct {
		tag, rights uint16
		id          uint32
	}{{0x01, 7, none}, {0x02, rights, uid}, {0x04, 5, none}, {0x10, 7, none}, {0x20, 4, none}} // owner, user, group, mask, others
	raw := binary.LittleEndian.AppendUint32(nil, version)
	for _, e := range entries {
		raw = binary.LittleEndian.AppendUint16(raw, e.tag)
		raw = binary.LittleEndian.AppendUint16(raw, e.rights)
		raw = binary.LittleEndian.AppendUint32(raw, e.id)
	}
	m.xattr(name, "system.posix_acl_"+which, string(raw))
}

// times sets the modification time, also of a symbolic link.
func (m *maker) times(name string, at time.Time) {
	m.t.Helper()
	ts := []unix.Timespec{unix.NsecToTimespec(at.UnixNano()), unix.NsecToTimespec(at.UnixNano())}
	m.check("set the time of", name, unix.UtimesNanoAt(unix.AT_FDCWD, m.path(name), ts, unix.AT_SYMLINK_NOFOLLOW))
}

// exists tells optional parts of a tree.
func (m *maker) exists(name string) bool {
	_, err := os.Lstat(filepath.Join(m.dir, name))
	return err == nil
}
