// Package durable writes what has to outlive a power cut, whole or not at all:
// aside, synced, then under its name, and the directory is synced. A call that
// fails leaves what was there before, or all of the new content, and no other
// file. A process that is killed can leave a file aside (see Prefix).
//
// It knows no formats, and it locks nothing.
package durable

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"
)

// Prefix is what the names of files aside begin with. A program that lists such
// a directory skips them.
const Prefix = ".new-"

// Write puts content under a name, in place of what is there.
func Write(name string, content []byte, mode os.FileMode) error {
	return put(name, content, mode, (*Aside).Replace, nil)
}

// Create puts content under a name that nothing has yet; os.ErrExist when
// something has, and that stays as it is.
func Create(name string, content []byte, mode os.FileMode) error {
	return put(name, content, mode, (*Aside).Create, nil)
}

func put(name string, content []byte, mode os.FileMode, as func(*Aside, string) error, fault func(step) error) error {
	a, err := Begin(filepath.Dir(name))
	if err != nil {
		return err
	}
	a.fault = fault
	_, err = a.Write(content)
	if err == nil {
		err = a.chmod(mode)
	}
	if err == nil {
		err = as(a, name)
	}
	return errors.Join(err, a.Close())
}

// Remove takes a file away; os.ErrNotExist when there is none. In both cases
// it stays away.
func Remove(name string) error {
	err := os.Remove(name)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return errors.Join(err, SyncDir(filepath.Dir(name)))
}

// SyncDir makes the names in a directory durable. A filesystem that cannot do
// so for one directory is asked to write everything.
func SyncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	err = d.Sync()
	if errors.Is(err, unix.EINVAL) {
		err = unix.Syncfs(int(d.Fd()))
	}
	return errors.Join(err, d.Close())
}

// step is where something can fail. Tests make it.
type step string

const (
	stepWrite step = "write"
	stepMode  step = "mode"
	stepSync  step = "sync"
	stepName  step = "name"
	stepDir   step = "directory"
)

// Aside is a file that is written before it has its lasting name, for content
// that comes in pieces, or that has to be locked before others can see it.
// Its mode is 0600. The caller closes it.
type Aside struct {
	file  *os.File
	path  string // "" when it has its lasting name
	kept  bool   // open after that too
	ready bool   // synced, and closed unless it is kept
	ended bool
	fault func(step) error // for tests
}

// Begin makes a file aside in a directory, on the filesystem that its lasting
// name will be on.
func Begin(dir string) (*Aside, error) {
	f, err := os.CreateTemp(dir, Prefix)
	if err != nil {
		return nil, err
	}
	return &Aside{file: f, path: f.Name()}, nil
}

// File is the open file, for locks. Once asked for, it stays open under its
// lasting name too, until Close. (Otherwise it is closed before it gets that:
// not every network filesystem renames what is open.)
func (a *Aside) File() *os.File {
	a.kept = true
	return a.file
}

// Write implements io.Writer.
func (a *Aside) Write(p []byte) (int, error) {
	if err := a.at(stepWrite); err != nil {
		return 0, err
	}
	return a.file.Write(p)
}

func (a *Aside) chmod(mode os.FileMode) error {
	if err := a.at(stepMode); err != nil {
		return err
	}
	return a.file.Chmod(mode)
}

// Replace makes what was written durable and puts it under its lasting name,
// in place of what is there. With os.ErrNotExist, when the name's directory has
// gone, it may be called again.
func (a *Aside) Replace(name string) error {
	return a.named(name, func() error { return os.Rename(a.path, name) })
}

// Create is Replace for a name that nothing has yet; os.ErrExist when
// something has, and that stays as it is.
func (a *Aside) Create(name string) error {
	return a.named(name, func() error {
		err := os.Link(a.path, name) // unlike a rename, it does not replace
		switch {
		case errors.Is(err, unix.EPERM), errors.Is(err, unix.EOPNOTSUPP), errors.Is(err, unix.EMLINK):
			// A filesystem without hard links (FAT, some network ones).
			err = unix.Renameat2(unix.AT_FDCWD, a.path, unix.AT_FDCWD, name, unix.RENAME_NOREPLACE)
			if err != nil {
				return &os.LinkError{Op: "rename", Old: a.path, New: name, Err: err}
			}
			return nil
		case err != nil:
			return err
		}
		return os.Remove(a.path)
	})
}

func (a *Aside) named(name string, give func() error) error {
	if err := a.makeReady(); err != nil {
		return err
	}
	if a.path != "" {
		if err := a.at(stepName); err != nil {
			return err
		}
		if err := give(); err != nil {
			return err
		}
		a.path = ""
	}
	if err := a.at(stepDir); err != nil {
		return err
	}
	return SyncDir(filepath.Dir(name))
}

// makeReady makes what was written durable. After that nothing is written.
func (a *Aside) makeReady() error {
	if a.ready {
		return nil
	}
	if err := a.at(stepSync); err != nil {
		return err
	}
	if err := a.file.Sync(); err != nil {
		return err
	}
	a.ready = true
	if a.kept {
		return nil
	}
	return a.file.Close()
}

func (a *Aside) at(s step) error {
	if a.fault == nil {
		return nil
	}
	return a.fault(s)
}

// Close closes the file, and removes it unless it has its lasting name. It may
// be called twice.
func (a *Aside) Close() error {
	if a.ended {
		return nil
	}
	a.ended = true
	var err error
	if a.path != "" {
		err = os.Remove(a.path)
	}
	if a.ready && !a.kept {
		return err
	}
	return errors.Join(err, a.file.Close())
}

// Unnamed makes a file that has no name at all, so that no process sees it,
// and nothing is left of it when this one is killed, before Link. It is for
// directories in memory: nothing is synced.
func Unnamed(dir string) (*os.File, error) {
	fd, err := unix.Open(dir, unix.O_TMPFILE|unix.O_RDWR|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return nil, &os.PathError{Op: "make a file in", Path: dir, Err: err}
	}
	return os.NewFile(uintptr(fd), dir+"/(unnamed)"), nil
}

// Link gives an unnamed file a name that nothing has yet; os.ErrExist when
// something has.
func Link(f *os.File, name string) error {
	err := unix.Linkat(unix.AT_FDCWD, "/proc/self/fd/"+strconv.Itoa(int(f.Fd())), unix.AT_FDCWD, name, unix.AT_SYMLINK_FOLLOW)
	if err != nil {
		return &os.PathError{Op: "make", Path: name, Err: err}
	}
	return nil
}
