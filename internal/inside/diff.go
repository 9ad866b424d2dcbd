package inside

import (
	"bytes"
	"context"
	"errors"
	"io"
	iofs "io/fs"
	"os"
	"path"
	"slices"
	"syscall"
	"unicode/utf8"

	"github.com/rogpeppe/go-internal/diff"
	"golang.org/x/sys/unix"
)

// What a Difference says.
const (
	Added   = "added"
	Removed = "removed"
	Changed = "changed"
	Rights  = "rights" // the same contents, and another owner or mode
)

// Difference is one name that differs between two trees. Of a folder that is in one
// of them alone it stands for all that is in it.
type Difference struct {
	What  string `json:"what"`
	Path  string `json:"path"`
	Kind  string `json:"kind"`
	Was   int64  `json:"was"`             // bytes, of a file, or of all files in a folder
	Is    int64  `json:"is"`              // the same
	Files int64  `json:"files,omitempty"` // in a folder
	Text  string `json:"text,omitempty"`  // of a text file that changed, where it was asked for
}

// textMost is the longest file of which the text is compared, in bytes.
const textMost = 1 << 20

// Compare tells what differs at a path between two trees of one dataset, old and new,
// in the order of names. It keeps no more than the names of the folders that it is in.
// With text it tells of text files what changed in them.
func Compare(ctx context.Context, old, recent Tree, name string, text bool, tell func(Difference) error) (err error) {
	c := &comparing{old: old, recent: recent, text: text, tell: tell}
	name = local(name)
	was, is, err := c.begin(name)
	if err != nil {
		return err
	}
	defer func() {
		for _, s := range []spot{was, is} {
			if s.dir != nil {
				err = errors.Join(err, s.dir.Close())
			}
		}
	}()
	return c.one(ctx, was, is, name)
}

type comparing struct {
	old, recent Tree
	text        bool
	tell        func(Difference) error
}

// begin opens the folders in which a path lies in both trees. In one of them it may
// not be.
func (c *comparing) begin(name string) (was, is spot, err error) {
	_, oldErr := c.old.stat(name)
	_, newErr := c.recent.stat(name)
	if oldErr != nil && newErr != nil {
		return was, is, oldErr
	}
	for _, side := range []struct {
		tree Tree
		err  error
		into *spot
	}{{c.old, oldErr, &was}, {c.recent, newErr, &is}} {
		if side.err != nil {
			continue
		}
		dir, err := side.tree.Root.Open(path.Dir(name))
		if err != nil {
			return was, is, err
		}
		*side.into = spot{dir, path.Base(name)}
	}
	return was, is, nil
}

// look is what is at a spot, nil when there is nothing.
func look(s spot) (iofs.FileInfo, error) {
	if s.dir == nil {
		return nil, nil //nolint:nilnil // nothing is there
	}
	info, err := os.Lstat(s.at())
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil //nolint:nilnil // it was removed meanwhile
	}
	return info, err
}

// one compares one name.
func (c *comparing) one(ctx context.Context, was, is spot, name string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	a, err := look(was)
	if err != nil {
		return err
	}
	b, err := look(is)
	if err != nil {
		return err
	}
	switch {
	case a == nil && b == nil, a != nil && c.old.absent(a), b != nil && c.recent.absent(b):
		return nil
	case a == nil:
		return c.alone(ctx, c.recent, is, b, Difference{What: Added, Path: name})
	case b == nil:
		return c.alone(ctx, c.old, was, a, Difference{What: Removed, Path: name})
	case kind(a) != kind(b):
		if err := c.alone(ctx, c.old, was, a, Difference{What: Removed, Path: name}); err != nil {
			return err
		}
		return c.alone(ctx, c.recent, is, b, Difference{What: Added, Path: name})
	}
	return c.both(ctx, was, is, a, b, name)
}

// both compares what is in both trees, of one kind.
func (c *comparing) both(ctx context.Context, was, is spot, a, b iofs.FileInfo, name string) error {
	d := Difference{What: Rights, Path: name, Kind: kind(a)}
	differs := false
	if d.Kind == File {
		d.Was, d.Is = a.Size(), b.Size()
	}
	if !untouched(a, b) {
		var err error
		if differs, err = contents(ctx, was, is, a, b); err != nil {
			return err
		}
	}
	if differs {
		d.What = Changed
		if err := c.addText(&d, was, is); err != nil {
			return err
		}
	}
	if differs || !sameRights(a, b) {
		if err := c.tell(d); err != nil {
			return err
		}
	}
	if d.Kind != Folder {
		return nil
	}
	return c.folders(ctx, was, is, name)
}

// folders compares what is in two folders.
func (c *comparing) folders(ctx context.Context, was, is spot, name string) (err error) {
	in, err := was.open(unix.O_RDONLY | unix.O_DIRECTORY)
	if err != nil {
		return err
	}
	defer in.Close() //nolint:errcheck // only read from
	out, err := is.open(unix.O_RDONLY | unix.O_DIRECTORY)
	if err != nil {
		return err
	}
	defer out.Close() //nolint:errcheck // only read from
	names, err := in.Readdirnames(-1)
	if err != nil {
		return err
	}
	more, err := out.Readdirnames(-1)
	if err != nil {
		return err
	}
	names = append(names, more...)
	slices.Sort(names)
	for _, n := range slices.Compact(names) {
		if err := c.one(ctx, spot{in, n}, spot{out, n}, path.Join(name, n)); err != nil {
			return err
		}
	}
	return nil
}

// alone tells of what is in one of the trees.
func (c *comparing) alone(ctx context.Context, t Tree, s spot, info iofs.FileInfo, d Difference) error {
	d.Kind = kind(info)
	size := &d.Is
	if d.What == Removed {
		size = &d.Was
	}
	if err := count(ctx, t, s, info, size, &d.Files); err != nil {
		return err
	}
	if d.Kind != Folder {
		d.Files = 0
	}
	return c.tell(d)
}

// count adds up the files at a spot.
func count(ctx context.Context, t Tree, s spot, info iofs.FileInfo, size, files *int64) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if info.Mode().IsRegular() {
		*size += info.Size()
		*files++
	}
	if !info.IsDir() || t.absent(info) {
		return nil
	}
	dir, err := s.open(unix.O_RDONLY | unix.O_DIRECTORY)
	if err != nil {
		return err
	}
	defer dir.Close() //nolint:errcheck // only read from
	names, err := dir.Readdirnames(-1)
	if err != nil {
		return err
	}
	for _, n := range names {
		below := spot{dir, n}
		info, err := look(below)
		if err == nil && info != nil {
			err = count(ctx, t, below, info, size, files)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func statOf(info iofs.FileInfo) syscall.Stat_t {
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		return *st
	}
	return syscall.Stat_t{}
}

// untouched tells of two instants of a dataset whether a file was not changed between
// them: programs cannot set the time of the last change of an inode.
func untouched(a, b iofs.FileInfo) bool {
	x, y := statOf(a), statOf(b)
	return x.Ino == y.Ino && x.Ctim == y.Ctim && x.Size == y.Size && x.Mtim == y.Mtim
}

func sameRights(a, b iofs.FileInfo) bool {
	x, y := statOf(a), statOf(b)
	return x.Uid == y.Uid && x.Gid == y.Gid && a.Mode() == b.Mode()
}

// contents tells whether two things of one kind have other contents.
func contents(ctx context.Context, was, is spot, a, b iofs.FileInfo) (differ bool, err error) {
	switch kind(a) {
	case Link:
		x, err := os.Readlink(was.at())
		if err != nil {
			return false, err
		}
		y, err := os.Readlink(is.at())
		return x != y, err
	case Other:
		return statOf(a).Rdev != statOf(b).Rdev || a.Mode().Type() != b.Mode().Type(), nil
	case Folder:
		return false, nil
	}
	if a.Size() != b.Size() {
		return true, nil
	}
	x, err := was.open(unix.O_RDONLY | unix.O_NONBLOCK)
	if err != nil {
		return false, err
	}
	defer x.Close() //nolint:errcheck // only read from
	y, err := is.open(unix.O_RDONLY | unix.O_NONBLOCK)
	if err != nil {
		return false, err
	}
	defer y.Close() //nolint:errcheck // only read from
	return otherBytes(ctx, x, y)
}

// otherBytes tells whether two readers have other bytes.
func otherBytes(ctx context.Context, x, y io.Reader) (differ bool, err error) {
	p, q := make([]byte, 256<<10), make([]byte, 256<<10)
	for {
		if err := ctx.Err(); err != nil {
			return false, err
		}
		n, errX := io.ReadFull(x, p)
		m, errY := io.ReadFull(y, q)
		if !bytes.Equal(p[:n], q[:m]) {
			return true, nil
		}
		for _, err := range []error{errX, errY} {
			if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
				return false, err
			}
		}
		if errX != nil || errY != nil {
			return false, nil //nolint:nilerr // both have ended, at the same byte
		}
	}
}

// addText adds what changed in a text.
func (c *comparing) addText(d *Difference, was, is spot) error {
	if !c.text || d.Kind != File || max(d.Was, d.Is) > textMost {
		return nil
	}
	var both [2][]byte
	for i, s := range []spot{was, is} {
		f, err := s.open(unix.O_RDONLY | unix.O_NONBLOCK)
		if err != nil {
			return err
		}
		both[i], err = io.ReadAll(io.LimitReader(f, textMost+1))
		if err := errors.Join(err, f.Close()); err != nil {
			return err
		}
		if bytes.IndexByte(both[i], 0) >= 0 || !utf8.Valid(both[i]) || len(both[i]) > textMost {
			return nil
		}
	}
	d.Text = string(diff.Diff(d.Path, both[0], d.Path, both[1]))
	return nil
}
