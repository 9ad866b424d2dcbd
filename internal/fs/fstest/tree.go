package fstest

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	iofs "io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// Tree is all that a backup has to bring back of a directory, by path below
// it ("." is the directory itself).
type Tree map[string]Entry

// Entry is one file, directory or node.
type Entry struct {
	Mode   uint32 // kind and permissions, as in stat(2)
	UID    uint32
	GID    uint32
	Device uint64 // number of a device node
	Size   int64  // bytes; 0 for directories
	MTime  int64  // ns since 1970
	Sparse bool   // less than half of it takes room
	Digest string // of the content of a file
	Target string // of a symbolic link
	First  string // the first path, in order, of the same file; tells hard links
	Xattrs map[string]string
}

// ReadTree reads what Compare compares.
func ReadTree(t testing.TB, dir string) Tree {
	t.Helper()
	tree, err := readTree(dir)
	if err != nil {
		t.Fatalf("read the tree %s: %v", dir, err)
	}
	return tree
}

func readTree(dir string) (Tree, error) {
	tree := make(Tree)
	first := make(map[uint64]string) // by inode; WalkDir goes in order
	err := filepath.WalkDir(dir, func(path string, _ iofs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		entry, inode, err := readEntry(path)
		if err != nil {
			return err
		}
		if _, seen := first[inode]; !seen {
			first[inode] = name
		}
		entry.First = first[inode]
		tree[name] = entry
		return nil
	})
	return tree, err
}

func readEntry(path string) (Entry, uint64, error) {
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err != nil {
		return Entry{}, 0, &os.PathError{Op: "lstat", Path: path, Err: err}
	}
	e := Entry{Mode: st.Mode, UID: st.Uid, GID: st.Gid, MTime: unix.TimespecToNsec(st.Mtim)}
	var err error
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFREG:
		e.Size, e.Sparse = st.Size, st.Size > 1<<20 && st.Blocks*512 < st.Size/2
		e.Digest, err = digest(path)
	case unix.S_IFLNK:
		e.Target, err = os.Readlink(path)
	case unix.S_IFBLK, unix.S_IFCHR:
		e.Device = st.Rdev
	}
	if err != nil {
		return Entry{}, 0, err
	}
	e.Xattrs, err = xattrs(path)
	return e, st.Ino, err
}

// digest is over a file's blocks that are not all zero, each with its offset,
// so that it is one for equal contents, holes or not, and holes cost nothing.
func digest(path string) (string, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOATIME, 0)
	if err != nil {
		return "", err
	}
	defer func() { _ = f.Close() }()
	const block = 64 << 10
	sum, buf, zeros := sha256.New(), make([]byte, block), make([]byte, block)
	for at := int64(0); ; at += block {
		data, err := f.Seek(at, unix.SEEK_DATA)
		if errors.Is(err, unix.ENXIO) { // only a hole is left
			return hex.EncodeToString(sum.Sum(nil)), nil
		}
		if err != nil {
			return "", err
		}
		at = data / block * block
		n, err := f.ReadAt(buf, at)
		if err != nil && !errors.Is(err, io.EOF) {
			return "", err
		}
		if !bytes.Equal(buf[:n], zeros[:n]) {
			sum.Write(binary.BigEndian.AppendUint64(nil, uint64(at)))
			sum.Write(buf[:n])
		}
	}
}

func xattrs(path string) (map[string]string, error) {
	size, err := unix.Llistxattr(path, nil)
	if errors.Is(err, unix.ENOTSUP) || err == nil && size == 0 {
		return nil, nil
	}
	if err != nil {
		return nil, &os.PathError{Op: "llistxattr", Path: path, Err: err}
	}
	names := make([]byte, size)
	if size, err = unix.Llistxattr(path, names); err != nil {
		return nil, &os.PathError{Op: "llistxattr", Path: path, Err: err}
	}
	found := make(map[string]string)
	for name := range strings.SplitSeq(strings.TrimRight(string(names[:size]), "\x00"), "\x00") {
		value := make([]byte, 64<<10)
		n, err := unix.Lgetxattr(path, name, value)
		if err != nil {
			return nil, &os.PathError{Op: "lgetxattr " + name, Path: path, Err: err}
		}
		found[name] = string(value[:n])
	}
	return found, nil
}

// Compare fails the test for everything in which the directory got differs
// from the directory want.
func Compare(t testing.TB, want, got string) {
	t.Helper()
	CompareTrees(t, ReadTree(t, want), ReadTree(t, got))
}

// CompareTrees does as Compare with trees that were read before.
func CompareTrees(t testing.TB, want, got Tree) {
	t.Helper()
	const most = 20
	differences := Diff(want, got)
	for i, d := range differences {
		if i == most {
			t.Errorf("and %d more", len(differences)-most)
			break
		}
		t.Error(d)
	}
}

// Diff says, a line for each, in what got differs from want.
func Diff(want, got Tree) []string {
	var lines []string
	for _, path := range slices.Sorted(maps.Keys(want)) {
		g, there := got[path]
		if !there {
			lines = append(lines, fmt.Sprintf("%q is missing", path))
			continue
		}
		lines = append(lines, diffEntry(path, want[path], g)...)
	}
	for _, path := range slices.Sorted(maps.Keys(got)) {
		if _, there := want[path]; !there {
			lines = append(lines, fmt.Sprintf("%q should not be there", path))
		}
	}
	return lines
}

func diffEntry(path string, want, got Entry) []string {
	var lines []string
	differ := func(what string, w, g any) {
		if w != g {
			lines = append(lines, fmt.Sprintf("%q: %s is %v, want %v", path, what, g, w))
		}
	}
	differ("mode", fmt.Sprintf("%07o", want.Mode), fmt.Sprintf("%07o", got.Mode))
	differ("owner", want.UID, got.UID)
	differ("group", want.GID, got.GID)
	differ("device", want.Device, got.Device)
	differ("size", want.Size, got.Size)
	differ("time (ns)", want.MTime, got.MTime)
	differ("sparse", want.Sparse, got.Sparse)
	differ("content", want.Digest, got.Digest)
	differ("link target", want.Target, got.Target)
	differ("hard link of", want.First, got.First)
	if !maps.Equal(want.Xattrs, got.Xattrs) {
		lines = append(lines, fmt.Sprintf("%q: extended attributes are %q, want %q", path, got.Xattrs, want.Xattrs))
	}
	return lines
}
