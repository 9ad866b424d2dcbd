package fstest

import (
	"bytes"
	"context"
	"errors"
	iofs "io/fs"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"snapd/internal/fs"

	"golang.org/x/sys/unix"
)

// testOpen: what a driver opens is what the dataset was, whatever became of it, and
// the snapshot is not changed by being looked at.
func testOpen(t *testing.T, h Harness) {
	opener, ok := h.Driver.(fs.Opener)
	if !ok {
		return // a capability that this driver does not have
	}
	dir, dataset := h.dataset(t, "open")
	m := newMaker(t, dir, 3)
	m.mkdir("sub dir\n")
	m.file("sub dir\n/file", []byte("as it was"))
	m.file("goes", []byte("gone later"))
	m.link("goes", "sub dir\n/same")
	m.symlink("/etc", "out")
	m.writeAt("sparse", []byte("end"), 3<<20)
	m.xattr("goes", "user.snapd", "x")
	m.acl("goes", "access", 1234, 5)
	want := ReadTree(t, dir)
	s := h.snapshot(t, "o", dataset)[0]
	before := h.stream(t, s, nil)
	m.remove("goes")
	m.file("sub dir\n/file", []byte("as it became"))
	o, err := opener.Open(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	got := ReadTree(t, o.Root().Name()+"/.")
	delete(want, "lost+found") // which ext4 makes by itself
	delete(got, "lost+found")
	CompareTrees(t, want, got)
	if f, err := o.Root().Open("out/passwd"); err == nil {
		t.Error("a symbolic link leads out of it", f.Close())
	}
	if entry, err := o.Root().Lstat("sub dir\n"); err != nil || o.Absent(entry) {
		t.Errorf("a folder is absent: %v", err)
	}
	if err := firstOf(o.Close(), o.Close()); err != nil {
		t.Errorf("close twice: %v", err)
	}
	if !bytes.Equal(before, h.stream(t, s, nil)) {
		t.Error("the snapshot was changed by being opened")
	}
	other := s
	other.GUID = h.snapshot(t, "p", dataset)[0].GUID
	if o, err := opener.Open(t.Context(), other); err == nil {
		t.Error("a snapshot is opened by its name, though its GUID is another's", o.Close())
	}
	if err := h.Driver.Delete(t.Context(), s); err != nil {
		t.Fatalf("delete what was opened: %v", err)
	}
	if o, err := opener.Open(t.Context(), s); !errors.Is(err, fs.ErrNotFound) {
		t.Errorf("open what is gone: got %v, want ErrNotFound", err)
		if err == nil {
			_ = o.Close()
		}
	}
}

// TryAttach shows an open snapshot at a directory, as root, and looks whether it is
// what fs.Opened promises. It has a file called name.
func TryAttach(t *testing.T, o fs.Opened, name string) {
	t.Helper()
	dir := t.TempDir()
	f, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := firstOf(o.Attach(f), f.Close(), o.Close()); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := unix.Unmount(dir, 0); err != nil {
			t.Fatalf("unmount: %v", err)
		}
		if _, err := os.Lstat(filepath.Join(dir, name)); err == nil {
			t.Error("it is there after it was unmounted")
		}
	}()
	if _, err := os.ReadFile(filepath.Join(dir, name)); err != nil {
		t.Error(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "new"), nil, 0o600); !errors.Is(err, unix.EROFS) {
		t.Errorf("write: got %v, want EROFS", err)
	}
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		t.Fatal(err)
	}
	const want = unix.ST_RDONLY | unix.ST_NOSUID | unix.ST_NODEV | unix.ST_NOEXEC
	if st.Flags&want != want {
		t.Errorf("it is mounted with the flags %#x, want at least %#x", st.Flags, want)
	}
}

// Opening is fs.Opener of a Memory: it writes the snapshot into a directory that goes
// with Close.
type Opening struct{ m *Memory }

var (
	_ fs.Opener = (*Opening)(nil)
	_ fs.Opened = (*memoryOpened)(nil)
)

// NewOpening returns it.
func NewOpening(m *Memory) *Opening { return &Opening{m} }

// Open implements fs.Opener.
func (o *Opening) Open(ctx context.Context, s fs.Snapshot) (fs.Opened, error) {
	if err := o.m.enter(ctx, "Open"); err != nil {
		return nil, err
	}
	o.m.mu.Lock()
	defer o.m.mu.Unlock()
	found, err := o.m.find(s)
	if err != nil {
		return nil, err
	}
	if found.Name != s.Name {
		return nil, fs.ErrNotFound
	}
	above, err := os.MkdirTemp("", "opened-")
	if err != nil {
		return nil, err
	}
	out := &memoryOpened{above: above, m: o.m, guid: s.GUID}
	if err := found.image.write(filepath.Join(above, "root")); err != nil {
		return nil, firstOf(err, out.Close())
	}
	if out.root, err = os.OpenRoot(filepath.Join(above, "root")); err != nil {
		return nil, firstOf(err, out.Close())
	}
	o.m.holds = append(o.m.holds, memoryHold{"opened " + above, s.GUID})
	return out, nil
}

type memoryOpened struct {
	m     *Memory
	guid  string
	above string
	root  *os.Root
	once  sync.Once
	err   error
}

// Root implements fs.Opened.
func (o *memoryOpened) Root() *os.Root { return o.root }

// Absent implements fs.Opened: of a nested dataset its images have an empty folder
// of this mode.
func (o *memoryOpened) Absent(entry iofs.FileInfo) bool { return entry.Mode() == os.ModeDir|absentMode }

// absentMode is the mode of a folder that stands for a dataset that is not in a
// snapshot.
const absentMode = 0o111

// Attach implements fs.Opened: what is in memory cannot be mounted.
func (o *memoryOpened) Attach(*os.File) error { return errors.ErrUnsupported }

// Close implements fs.Opened.
func (o *memoryOpened) Close() error {
	o.once.Do(func() {
		if o.root != nil {
			o.err = o.root.Close()
		}
		o.err = firstOf(o.err, removeTree(o.above))
		o.m.mu.Lock()
		defer o.m.mu.Unlock()
		for i, h := range o.m.holds {
			if h.purpose == "opened "+o.above {
				o.m.holds = append(o.m.holds[:i:i], o.m.holds[i+1:]...)
				return
			}
		}
	})
	return o.err
}

// removeTree removes what may have folders that another user may not change.
func removeTree(dir string) error {
	err := filepath.WalkDir(dir, func(path string, e iofs.DirEntry, err error) error {
		if err == nil && e.IsDir() {
			err = unix.Chmod(path, 0o700)
		}
		return err
	})
	return firstOf(os.RemoveAll(dir), err)
}
