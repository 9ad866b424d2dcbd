package fstest

import (
	"fmt"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// NastySteps is how many times ChangeNastyTree can change a tree.
const NastySteps = 3

// ChangeNastyTree changes a tree of WriteNastyTree: it deletes, renames, cuts
// and replaces. Step goes from 1 to NastySteps, one after the other.
func ChangeNastyTree(t testing.TB, dir string, step int) {
	t.Helper()
	if step < 1 || step > NastySteps {
		t.Fatalf("there is no step %d", step)
	}
	m := newMaker(t, dir, byte(1+step))
	in := fmt.Sprintf("step %d/", step)
	m.changeNames(in)
	m.changeContents(in)
	m.changeRights(in)
	m.changeShared(step)
	if m.exists(bigName) {
		m.writeAt(bigName, m.random(1<<20), int64(step)<<29+12345)
	}
	m.times(".", time.Date(2005+step, 2, 3, 4, 5, 6, step, time.UTC))
}

func (m *maker) changeNames(in string) {
	m.remove(in + "deleted")
	m.rename(in+"renamed", in+"has a new name")
	m.rename(in+"renamed and changed", in+"new\nname \xff")
	m.file(in+"new\nname \xff", []byte("and new content"))
	m.rename(in+"swapped 1", in+"swapping")
	m.rename(in+"swapped 2", in+"swapped 1")
	m.rename(in+"swapping", in+"swapped 2")
	m.remove(in + "becomes a directory")
	m.mkdir(in + "becomes a directory/with")
	m.file(in+"becomes a directory/with/a file", []byte("in it"))
	m.remove(in + "becomes a link")
	m.symlink("somewhere", in+"becomes a link")
	m.remove(in + "replaced") // another file under the same name
	m.file(in+"replaced", []byte("a new file"))
	m.rename(in+"goes/with/saved", in+"saved from what goes")
	m.remove(in + "goes")
	m.mkdir(in + "new parent")
	m.rename(in+"moves", in+"new parent/moved")
	m.rename(in+"new parent/moved/inner", in+"moves") // its child takes its name
	m.remove(in + "node")
	m.node(in+"node", unix.S_IFCHR|0o600, charDevice())
	m.remove(in + "link")
	m.symlink("after", in+"link")
	m.remove(in + "loses its link")
	m.link(in+"linked", in+"new parent/gets a link")
}

func (m *maker) changeContents(in string) {
	m.truncate(in+"cut short", 4097)
	m.truncate(in+"cut to nothing", 0)
	m.writeAt(in+"grows", m.random(100_000), 300_000)
	m.truncate(in+"grows", 5<<20) // and ends in a hole
	m.writeAt(in+"changes inside", m.random(1000), 123_456)
	m.punch(in+"gets a hole", 65536, 131072)
	m.clone(in+"is shared later", in+"shares")
	m.writeAt(in+"shares", []byte("but not this"), 200_000)
	m.file(in+"added", m.random(200_000))
}

func (m *maker) changeRights(in string) {
	m.chown(in+"rights", 4242, 2424)
	m.chmod(in+"rights", 0o2710)
	m.noXattr(in+"rights", "user.goes")
	m.xattr(in+"rights", "user.changes", "after")
	m.xattr(in+"rights", "user.comes", "now")
	m.acl(in+"rights", "access", 4321, 5)
	m.times(in+"times only", time.Date(2010, 1, 2, 3, 4, 5, 6, time.UTC))
}

// changeShared changes, in every step, the same things again.
func (m *maker) changeShared(step int) {
	m.writeAt("content/sparse", m.random(5000), int64(step)<<22)
	m.writeAt("content/five megabytes", m.random(4096), int64(step)<<20)
	m.file("links/hard 2", fmt.Appendf(nil, "changed by step %d under another name", step))
	m.xattr("xattrs/directory", "user.directory", fmt.Sprint("step ", step))
	m.rename("names/with space", "names/with space.tmp")
	m.rename("names/with space.tmp", "names/with space")
	for i := step; i < 400; i += 10 {
		m.file(fmt.Sprintf("many/%03d", i), m.random(i))
	}
	m.remove(fmt.Sprintf("many/%03d", 399-step))
	m.times("many", time.Date(2020+step, 2, 3, 4, 5, 6, 1, time.UTC))
}

// bigName is the file that WriteBigFile makes.
const (
	bigName = "three gigabytes"
	bigSize = 3<<30 + 7 // bytes: more than 31 bits can count
)

// WriteBigFile adds a file of 3 GiB to a tree. With real all of it is data;
// otherwise it is a hole but for some megabytes on either side of 2 GiB and at
// the end, which takes a thousandth of the time.
func WriteBigFile(t testing.TB, dir string, real bool) {
	t.Helper()
	m := newMaker(t, dir, 0xff)
	m.file(bigName, nil)
	m.truncate(bigName, bigSize)
	if !real {
		for _, at := range []int64{0, 1<<31 - 1<<20, bigSize - 1<<20} {
			m.writeAt(bigName, m.random(1<<20), at)
		}
		return
	}
	const piece = 8 << 20
	for at := int64(0); at < bigSize; at += piece {
		m.writeAt(bigName, m.random(int(min(piece, bigSize-at))), at)
	}
}
