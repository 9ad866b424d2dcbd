package fstest

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	iofs "io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// image is a tree at one instant, by path below its root; "." is the root.
type image map[string]*node

// node is one file, directory, link or device of an image.
type node struct {
	Mode     uint32
	UID, GID uint32
	Device   uint64
	MTime    int64 // ns since 1970
	Size     int64
	Target   []byte // of a symbolic link; any bytes
	First    []byte // the first path of the same file, if that is another one: nothing else counts then
	Xattrs   []xattr
	blocks   map[int64][]byte // by offset; what is missing is zero
}

type xattr struct{ Name, Value []byte }

const blockSize = 64 << 10

// freezePatience is how long files are waited for that are being written to.
const freezePatience = 10 * time.Second

var errAppeared = errors.New("a file appeared meanwhile")

// capture reads trees as they are at one instant: as long as a file has a read
// lease, the kernel keeps every program waiting that opens it for writing. With
// between they are read without, and it is called after each file.
func capture(dirs []string, between func(string)) ([]image, error) {
	end := time.Now().Add(freezePatience)
	for {
		images, err := captureOnce(dirs, between, end)
		if !errors.Is(err, errAppeared) || time.Now().After(end) {
			return images, err
		}
	}
}

func captureOnce(dirs []string, between func(string), end time.Time) ([]image, error) {
	frozen := map[uint64]*os.File{} // by inode
	defer func() {
		for _, f := range frozen {
			_ = f.Close() // which ends the lease
		}
	}()
	walk := func(dir string, each func(path, name string, st *unix.Stat_t) error) error {
		return filepath.WalkDir(dir, func(path string, _ iofs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			var st unix.Stat_t
			if err := unix.Lstat(path, &st); err != nil {
				return &os.PathError{Op: "lstat", Path: path, Err: err}
			}
			name, err := filepath.Rel(dir, path)
			if err != nil {
				return err
			}
			return each(path, name, &st)
		})
	}
	for _, dir := range dirs {
		err := walk(dir, func(path, _ string, st *unix.Stat_t) (err error) {
			if st.Mode&unix.S_IFMT == unix.S_IFREG && frozen[st.Ino] == nil {
				frozen[st.Ino], err = freezeFile(path, between == nil, end)
			}
			return err
		})
		if err != nil {
			return nil, err
		}
	}
	var out []image
	for _, dir := range dirs {
		im, first := image{}, map[uint64]string{}
		err := walk(dir, func(path, name string, st *unix.Stat_t) error {
			if earlier, seen := first[st.Ino]; seen {
				im[name] = &node{First: []byte(earlier)}
				return nil
			}
			first[st.Ino] = name
			n, err := readNode(path, st, frozen[st.Ino])
			im[name] = n
			if between != nil {
				between(path)
			}
			return err
		})
		if err != nil {
			return nil, err
		}
		out = append(out, im)
	}
	return out, nil
}

// freezeFile opens a file and gets a lease on it.
func freezeFile(path string, lease bool, end time.Time) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOATIME|unix.O_NOFOLLOW, 0)
	if err != nil || !lease {
		return f, err
	}
	for {
		_, err := unix.FcntlInt(f.Fd(), unix.F_SETLEASE, unix.F_RDLCK)
		if err == nil {
			return f, nil
		}
		if !errors.Is(err, unix.EAGAIN) || time.Now().After(end) {
			_ = f.Close()
			return nil, fmt.Errorf("freeze %s: %w", path, err)
		}
		time.Sleep(time.Millisecond) // a program writes to it, and may finish that
	}
}

func readNode(path string, st *unix.Stat_t, f *os.File) (*node, error) {
	n := &node{Mode: st.Mode, UID: st.Uid, GID: st.Gid, MTime: unix.TimespecToNsec(st.Mtim)}
	var err error
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFREG:
		if f == nil {
			return nil, errAppeared
		}
		n.Size = st.Size
		n.blocks, err = readBlocks(f)
	case unix.S_IFLNK:
		var target string
		target, err = os.Readlink(path)
		n.Target = []byte(target)
	case unix.S_IFBLK, unix.S_IFCHR:
		n.Device = st.Rdev
	}
	if err != nil {
		return nil, err
	}
	found, err := xattrs(path)
	for _, key := range slices.Sorted(maps.Keys(found)) {
		n.Xattrs = append(n.Xattrs, xattr{[]byte(key), []byte(found[key])})
	}
	return n, err
}

// readBlocks reads what of a file is not zero.
func readBlocks(f *os.File) (map[int64][]byte, error) {
	blocks, zeros := map[int64][]byte{}, make([]byte, blockSize)
	for at := int64(0); ; at += blockSize {
		data, err := f.Seek(at, unix.SEEK_DATA)
		if errors.Is(err, unix.ENXIO) { // only a hole is left
			return blocks, nil
		}
		if err != nil {
			return nil, err
		}
		at = data / blockSize * blockSize
		buf := make([]byte, blockSize)
		n, err := f.ReadAt(buf, at)
		if err != nil && !errors.Is(err, io.EOF) {
			return nil, err
		}
		if !bytes.Equal(buf[:n], zeros[:n]) {
			blocks[at] = buf[:n:n]
		}
	}
}

// share keeps blocks once that are the same as in another image.
func (im image) share(other image) {
	for path, n := range im {
		o := other[path]
		if o == nil {
			continue
		}
		for at, b := range n.blocks {
			if bytes.Equal(b, o.blocks[at]) {
				n.blocks[at] = o.blocks[at]
			}
		}
	}
}

func (im image) clone() image {
	out := image{}
	for path, n := range im {
		c := *n
		c.blocks = maps.Clone(n.blocks)
		out[path] = &c
	}
	return out
}

// write makes the tree in a directory that does not exist. Rights and times
// come last, from the deepest up, since making files changes those above.
func (im image) write(dir string) error {
	paths := slices.Sorted(maps.Keys(im)) // a directory before what is in it
	for _, path := range paths {
		if n := im[path]; len(n.First) == 0 {
			if err := n.make(filepath.Join(dir, path)); err != nil {
				return err
			}
		}
	}
	for _, path := range paths {
		if n := im[path]; len(n.First) > 0 {
			if err := os.Link(filepath.Join(dir, string(n.First)), filepath.Join(dir, path)); err != nil {
				return err
			}
		}
	}
	for _, path := range slices.Backward(paths) {
		if n := im[path]; len(n.First) == 0 {
			if err := n.describe(filepath.Join(dir, path)); err != nil {
				return err
			}
		}
	}
	return nil
}

func (n *node) make(to string) error {
	switch n.Mode & unix.S_IFMT {
	case unix.S_IFDIR:
		return os.Mkdir(to, 0o700)
	case unix.S_IFLNK:
		return os.Symlink(string(n.Target), to)
	case unix.S_IFREG:
		f, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
		if err != nil {
			return err
		}
		err = f.Truncate(n.Size)
		for at, b := range n.blocks {
			if _, writeErr := f.WriteAt(b, at); writeErr != nil {
				err = writeErr
			}
		}
		return firstOf(err, f.Close())
	}
	return unix.Mknod(to, n.Mode&unix.S_IFMT|0o600, int(n.Device))
}

func (n *node) describe(to string) error {
	var now unix.Stat_t
	if err := unix.Lstat(to, &now); err != nil {
		return err
	}
	if now.Uid != n.UID || now.Gid != n.GID {
		if err := os.Lchown(to, int(n.UID), int(n.GID)); err != nil {
			return err
		}
	}
	have, err := xattrs(to) // what a default list of rights gave it
	if err != nil {
		return err
	}
	for key := range have {
		if err := unix.Lremovexattr(to, key); err != nil {
			return err
		}
	}
	for _, x := range n.Xattrs {
		if err := unix.Lsetxattr(to, string(x.Name), x.Value, 0); err != nil {
			return &os.PathError{Op: "set " + string(x.Name) + " of", Path: to, Err: err}
		}
	}
	if n.Mode&unix.S_IFMT != unix.S_IFLNK {
		if err := unix.Chmod(to, n.Mode&0o7777); err != nil {
			return err
		}
	}
	at := unix.NsecToTimespec(n.MTime)
	return unix.UtimesNanoAt(unix.AT_FDCWD, to, []unix.Timespec{at, at}, unix.AT_SYMLINK_NOFOLLOW)
}
