package fstest

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Names that tools get wrong. Each is at most 255 bytes.
func nastyNames() []string {
	return []string{
		"with space", " leading and trailing ", "new\nline", "tab\t", "not utf-8 \xff\xfe\x80", "ünïcödé 漢字 🚢", "a@b", "-rf", "--", "*", "$(x)`y`",
		"back\\slash", "quote\"'", "#hash", "%41", "\x01\x1b[31m", "...", strings.Repeat("n", 255), strings.Repeat("ü", 127),
	}
}

// Devices of nodes: null and the first loop device, which no test opens.
func charDevice() uint64  { return unix.Mkdev(1, 3) }
func blockDevice() uint64 { return unix.Mkdev(7, 0) }

// WriteNastyTree fills an empty directory with about 20 MB of what is easily
// lost. It needs a filesystem with POSIX ACLs; without root it leaves out owners,
// devices and what else only root may make.
func WriteNastyTree(t testing.TB, dir string) {
	t.Helper()
	m := newMaker(t, dir, 1)
	m.writeNames()
	m.writeContents()
	m.writeNodes()
	m.writeLinks()
	m.writeRights()
	m.writeForChanges()
	m.writeTimes()
}

func (m *maker) writeNames() {
	for i, name := range nastyNames() {
		m.mkdir("names/" + name)
		m.file("names/"+name+"/"+name, fmt.Appendf(nil, "file %d", i))
	}
	m.mkdir(strings.Repeat("deep/", 100))
	m.file(strings.Repeat("deep/", 100)+"bottom", []byte("deep"))
	m.mkdir("many")
	for i := range 400 {
		m.file(fmt.Sprintf("many/%03d", i), bytes.Repeat([]byte{byte(i)}, i*7))
	}
}

func (m *maker) writeContents() {
	m.mkdir("content")
	for _, size := range []int{0, 1, 2047, 2048, 4095, 4096, 4097, 65536, 131073, 1<<20 + 1} {
		m.file(fmt.Sprintf("content/random %d", size), m.random(size))
		m.file(fmt.Sprintf("content/plain %d", size), bytes.Repeat([]byte("snapd "), size/6+1)[:size])
	}
	m.file("content/five megabytes", m.random(5<<20))
	m.clone("content/five megabytes", "content/shared extents")
	m.file("content/sparse", nil)
	m.truncate("content/sparse", 64<<20)
	m.writeAt("content/sparse", m.random(5000), 0)
	m.writeAt("content/sparse", m.random(100_000), 33<<20+17)
	m.file("content/only a hole", nil)
	m.truncate("content/only a hole", 8<<20)
}

func (m *maker) writeNodes() {
	m.mkdir("nodes")
	m.node("nodes/fifo", unix.S_IFIFO|0o640, 0)
	m.node("nodes/socket", unix.S_IFSOCK|0o600, 0)
	m.node("nodes/char", unix.S_IFCHR|0o666, charDevice())
	m.node("nodes/block", unix.S_IFBLK|0o660, blockDevice())
	m.mkdir("nodes/empty directory")
}

func (m *maker) writeLinks() {
	m.mkdir("links")
	m.symlink("../content/sparse", "links/relative")
	m.symlink("/nowhere/at all", "links/dangling")
	m.symlink(".", "links/itself")
	m.symlink(strings.Repeat("long/", 200), "links/long")
	m.symlink("not utf-8 \xff\nnew line", "links/strange")
	m.file("links/hard 1", []byte("one file, three names"))
	m.link("links/hard 1", "links/hard 2")
	m.link("links/hard 1", "names/hard 3")
	m.link("links/dangling", "links/hard symlink")
	m.link("nodes/fifo", "links/hard fifo")
}

func (m *maker) writeRights() {
	m.mkdir("rights")
	for i, mode := range []uint32{0, 0o400, 0o777, 0o4755, 0o2755, 0o6711} {
		name := fmt.Sprintf("rights/%04o", mode)
		m.file(name, []byte("rights"))
		m.chown(name, 1000+i, 65534)
		m.chmod(name, mode)
	}
	m.mkdir("rights/sticky")
	m.chmod("rights/sticky", 0o1777)
	m.mkdir("rights/setgid")
	m.chown("rights/setgid", 4_000_000_000, 3_999_999_999)
	m.chmod("rights/setgid", 0o2770)
	m.symlink("x", "rights/link")
	m.chown("rights/link", 1234, 5678)

	m.mkdir("xattrs/directory")
	m.file("xattrs/file", []byte("attributes"))
	m.xattr("xattrs/file", "user.plain", "value")
	m.xattr("xattrs/file", "user.empty", "")
	m.xattr("xattrs/file", "user.binary \xff\n", "zero \x00 and \xff")
	m.xattr("xattrs/file", "user.long", strings.Repeat("v", 1000))
	m.xattr("xattrs/file", "trusted.snapd", "for root only")
	m.xattr("xattrs/directory", "user.directory", "yes")
	m.file("xattrs/capable", []byte("may bind to low ports"))
	m.xattr("xattrs/capable", "security.capability", "\x01\x00\x00\x02\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00")
	m.file("xattrs/acl", []byte("a list of rights"))
	m.acl("xattrs/acl", "access", 1234, 6)
	m.acl("xattrs/directory", "access", 1234, 7)
	m.acl("xattrs/directory", "default", 4321, 5)
	m.file("xattrs/directory/inherits", []byte("default rights"))
}

// writeForChanges makes what ChangeNastyTree changes, for each step its own.
func (m *maker) writeForChanges() {
	for step := 1; step <= NastySteps; step++ {
		in := fmt.Sprintf("step %d/", step)
		m.mkdir(in + "goes/with/all")
		m.mkdir(in + "moves/inner")
		m.mkdir(in + "becomes a link")
		for _, name := range []string{
			"deleted", "renamed", "renamed and changed", "swapped 1", "swapped 2", "becomes a directory", "replaced", "linked", "rights", "times only",
			"goes/with/all/of it", "goes/with/saved", "moves/inner/file", "becomes a link/file",
		} {
			m.file(in+name, []byte(in+name))
		}
		for _, name := range []string{"cut short", "cut to nothing", "grows", "changes inside", "gets a hole", "is shared later"} {
			m.file(in+name, m.random(300_000))
		}
		m.node(in+"node", unix.S_IFIFO|0o600, 0)
		m.symlink("before", in+"link")
		m.link(in+"linked", in+"loses its link")
		m.xattr(in+"rights", "user.goes", "soon")
		m.xattr(in+"rights", "user.changes", "before")
		m.acl(in+"rights", "access", 1234, 6)
	}
}

func (m *maker) writeTimes() {
	m.times("content/random 1", time.Date(1999, 12, 31, 23, 59, 59, 999_999_999, time.UTC))
	m.times("content/random 2047", time.Date(2037, 1, 1, 0, 0, 0, 1, time.UTC))
	m.times("content/plain 1", time.Unix(0, 1))
	m.times("links/relative", time.Date(2001, 2, 3, 4, 5, 6, 700_800_900, time.UTC))
	m.times("nodes/fifo", time.Date(2002, 2, 3, 4, 5, 6, 123_456_789, time.UTC))
	m.times("nodes/empty directory", time.Date(2003, 2, 3, 4, 5, 6, 987_654_321, time.UTC))
	m.times("many", time.Date(2004, 2, 3, 4, 5, 6, 1, time.UTC))
	m.times(".", time.Date(2005, 2, 3, 4, 5, 6, 5, time.UTC))
}
