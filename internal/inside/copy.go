package inside

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	iofs "io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// ErrExists says that there is something already where a copy is to go.
var ErrExists = errors.New("already exists")

// Copied is what was copied.
type Copied struct {
	To      string   `json:"to"`
	Files   int64    `json:"files"`
	Folders int64    `json:"folders"`
	Bytes   int64    `json:"bytes"`            // of files, as long as they are
	Aside   string   `json:"aside,omitempty"`  // where what was there before is now
	Absent  []string `json:"absent,omitempty"` // below it: datasets of their own, which the point does not have
	Lost    []string `json:"lost,omitempty"`   // what could not be kept, each kind once
}

// CopyOptions say how a copy goes to a name that is taken, and who hears of it.
type CopyOptions struct {
	// Aside, if not empty, is appended to the name of what is there; without it that
	// is ErrExists.
	Aside string
	// Progress is told how many bytes were copied so far. May be nil.
	Progress func(bytes int64)
}

// staging begins the names under which copies are made.
const staging = ".snapd-cp-"

// Copy copies a file, or a folder with all that is in it, to a name in an existing
// folder of the host: with owners, rights, attributes, times, holes and hard links. It
// is made under another name, and has its own when it is whole.
func (t Tree) Copy(ctx context.Context, name, to string, o CopyOptions) (out Copied, err error) {
	out.To = to
	info, err := t.stat(local(name))
	if err != nil {
		return out, err
	}
	name, err = t.real(local(name), info)
	if err != nil {
		return out, err
	}
	folder, base := filepath.Split(to)
	above, err := os.OpenRoot(path.Join(folder, "."))
	if err != nil {
		return out, err
	}
	defer func() { err = errors.Join(err, above.Close()) }()
	if _, err := above.Lstat(base); err == nil && o.Aside == "" {
		return out, fmt.Errorf("%s: %w", to, ErrExists)
	}
	stage := staging + strings.ToLower(rand.Text()[:12])
	defer func() {
		if err != nil {
			err = errors.Join(err, removeStage(above, stage))
		}
	}()
	c := &copying{tree: t, out: &out, o: o, seen: map[inode]string{}, stage: above, top: stage, lost: map[string]bool{}}
	if err := c.begin(ctx, name, above, stage); err != nil {
		return out, err
	}
	return out, c.take(above, stage, base)
}

// real is the name of what a name leads to, through links that stay in the tree: what
// a user names is copied, and not a link to it.
func (t Tree) real(name string, info iofs.FileInfo) (string, error) {
	for range 40 { // as the kernel does
		link, err := t.Root.Lstat(name)
		if err != nil {
			return "", err
		}
		if os.SameFile(link, info) {
			return name, nil
		}
		target, err := t.Root.Readlink(name)
		if err != nil {
			return "", err
		}
		name = path.Join(path.Dir(name), target)
	}
	return "", &os.PathError{Op: "open", Path: name, Err: syscall.ELOOP}
}

func removeStage(above *os.Root, stage string) error {
	if _, err := above.Lstat(stage); errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return above.RemoveAll(stage)
}

type inode struct{ device, number uint64 }

// copying is one copy at work.
type copying struct {
	tree  Tree
	out   *Copied
	o     CopyOptions
	seen  map[inode]string // files with several names, by the path of the first below stage
	stage *os.Root
	top   string // name of the copy there
	lost  map[string]bool
	buf   []byte
}

// begin opens the folders that the source and the copy lie in.
func (c *copying) begin(ctx context.Context, name string, above *os.Root, stage string) error {
	from, err := c.tree.Root.Open(path.Dir(name))
	if err != nil {
		return err
	}
	defer from.Close() //nolint:errcheck // only read from
	into, err := above.Open(".")
	if err != nil {
		return err
	}
	if err := c.one(ctx, spot{from, path.Base(name)}, spot{into, stage}, ""); err != nil {
		return errors.Join(err, into.Close())
	}
	return errors.Join(unix.Syncfs(int(into.Fd())), into.Close())
}

// take gives the copy its name.
func (c *copying) take(above *os.Root, stage, base string) error {
	dir, err := above.Open(".")
	if err != nil {
		return err
	}
	defer dir.Close() //nolint:errcheck // only names were changed through it
	rename := func(from, to string) error {
		err := unix.Renameat2(int(dir.Fd()), from, int(dir.Fd()), to, unix.RENAME_NOREPLACE)
		if errors.Is(err, unix.EEXIST) {
			return fmt.Errorf("%s: %w", filepath.Join(above.Name(), to), ErrExists)
		}
		return os.NewSyscallError("rename", err)
	}
	if _, err := above.Lstat(base); err == nil && c.o.Aside != "" {
		if err := rename(base, base+c.o.Aside); err != nil {
			return err
		}
		c.out.Aside = c.out.To + c.o.Aside
	}
	if err := rename(stage, base); err != nil {
		if c.out.Aside != "" {
			err = errors.Join(err, rename(base+c.o.Aside, base))
		}
		return err
	}
	return dir.Sync()
}

// spot is a name in an open folder. No link is followed on the way to it.
type spot struct {
	dir  *os.File
	name string
}

// at is a path by which calls that take no folder reach it.
func (s spot) at() string { return fmt.Sprintf("/proc/self/fd/%d/%s", s.dir.Fd(), s.name) }

func (s spot) open(flags int) (*os.File, error) {
	fd, err := unix.Openat(int(s.dir.Fd()), s.name, flags|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: s.name, Err: err}
	}
	return os.NewFile(uintptr(fd), s.name), nil
}

// one copies one name, and what is in it. below is its path in the copy, "" for all
// of that.
func (c *copying) one(ctx context.Context, from, to spot, below string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	info, err := os.Lstat(from.at())
	if err != nil {
		return err
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return fmt.Errorf("%s: %w", below, errors.ErrUnsupported)
	}
	if c.tree.absent(info) {
		c.out.Absent = append(c.out.Absent, below)
	}
	if err := c.make(ctx, from, to, below, info, st); err != nil && !info.IsDir() {
		return fmt.Errorf("copy %s: %w", cmp.Or(below, from.name), err)
	} else if err != nil {
		return err // it names what in the folder could not be copied
	}
	return nil
}

func (c *copying) make(ctx context.Context, from, to spot, below string, info iofs.FileInfo, st *syscall.Stat_t) error {
	id := inode{st.Dev, st.Ino}
	if first, seen := c.seen[id]; seen && !info.IsDir() {
		return c.stage.Link(path.Join(c.top, first), path.Join(c.top, below))
	}
	if st.Nlink > 1 && !info.IsDir() {
		c.seen[id] = below
	}
	var err error
	switch {
	case info.IsDir():
		c.out.Folders++
		err = c.folder(ctx, from, to, below)
	case info.Mode().IsRegular():
		c.out.Files++
		err = c.file(ctx, from, to, info.Size())
	case info.Mode()&iofs.ModeSymlink != 0:
		var target string
		if target, err = os.Readlink(from.at()); err == nil {
			err = unix.Symlinkat(target, int(to.dir.Fd()), to.name)
		}
	default:
		err = unix.Mknodat(int(to.dir.Fd()), to.name, st.Mode&unix.S_IFMT|0o600, int(st.Rdev))
	}
	if err != nil {
		return err
	}
	return c.describe(from, to, st)
}

func (c *copying) folder(ctx context.Context, from, to spot, below string) (err error) {
	if err := unix.Mkdirat(int(to.dir.Fd()), to.name, 0o700); err != nil {
		return os.NewSyscallError("mkdir", err)
	}
	in, err := from.open(unix.O_RDONLY | unix.O_DIRECTORY)
	if err != nil {
		return err
	}
	defer in.Close() //nolint:errcheck // only read from
	out, err := to.open(unix.O_RDONLY | unix.O_DIRECTORY)
	if err != nil {
		return err
	}
	defer out.Close() //nolint:errcheck // nothing is written through it
	for {
		names, err := in.Readdirnames(1000)
		for _, name := range names {
			if err := c.one(ctx, spot{in, name}, spot{out, name}, path.Join(below, name)); err != nil {
				return err
			}
		}
		if len(names) == 0 {
			if err != nil && !errors.Is(err, io.EOF) {
				return err
			}
			return nil
		}
	}
}

// file copies the contents: shared where both lie on one filesystem that can, else
// piece by piece, and holes stay holes.
func (c *copying) file(ctx context.Context, from, to spot, size int64) (err error) {
	in, err := from.open(unix.O_RDONLY | unix.O_NONBLOCK)
	if err != nil {
		return err
	}
	defer in.Close() //nolint:errcheck // only read from
	out, err := to.open(unix.O_WRONLY | unix.O_CREAT | unix.O_EXCL)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, out.Close()) }()
	if unix.IoctlFileClone(int(out.Fd()), int(in.Fd())) == nil {
		c.progress(size)
		return nil
	}
	for at := int64(0); at < size; {
		data, err := unix.Seek(int(in.Fd()), at, unix.SEEK_DATA)
		if errors.Is(err, unix.ENXIO) { // only a hole is left
			break
		}
		if err != nil {
			return os.NewSyscallError("lseek", err)
		}
		hole, err := unix.Seek(int(in.Fd()), data, unix.SEEK_HOLE)
		if err != nil {
			return os.NewSyscallError("lseek", err)
		}
		if err := c.piece(ctx, in, out, data, hole); err != nil {
			return err
		}
		at = hole
	}
	return out.Truncate(size)
}

// piece copies the bytes from at up to end, which the file has.
func (c *copying) piece(ctx context.Context, in, out *os.File, at, end int64) error {
	if c.buf == nil {
		c.buf = make([]byte, 1<<20)
	}
	for at < end {
		if err := ctx.Err(); err != nil {
			return err
		}
		n, err := in.ReadAt(c.buf[:min(int64(len(c.buf)), end-at)], at)
		if n == 0 {
			return fmt.Errorf("it ends after %d of %d bytes: %w", at, end, err)
		}
		if _, err := out.WriteAt(c.buf[:n], at); err != nil {
			return err
		}
		at += int64(n)
		c.progress(int64(n))
	}
	return nil
}

func (c *copying) progress(n int64) {
	c.out.Bytes += n
	if c.o.Progress != nil {
		c.o.Progress(c.out.Bytes)
	}
}

// AsideNow is what is appended to the name of what gives way at a moment.
func AsideNow(now time.Time) string { return ".before-" + now.UTC().Format("20060102T150405Z") }
