// Package inside reads what is in a tree that is open: it lists, copies and compares
// its files. It knows no points and no storages, follows no symbolic link out of the
// tree, and changes nothing in it.
package inside

import (
	"errors"
	"fmt"
	"io"
	iofs "io/fs"
	"os"
	"path"
	"slices"
	"strings"
	"syscall"
	"time"
)

// Tree is one that is open.
type Tree struct {
	Root   *os.Root
	Absent func(iofs.FileInfo) bool // as fs.Opened has it; nil: nothing is
}

// ErrNoFile says that something is no plain file.
var ErrNoFile = errors.New("not a file")

// Kinds of entries.
const (
	File   = "file"
	Folder = "folder"
	Link   = "link"
	Other  = "other" // a device, a socket, a pipe
	Gone   = "absent"
)

// Entry is what one name in a tree is.
type Entry struct {
	Name     string    `json:"name"`
	Kind     string    `json:"kind"` // absent: a dataset of its own, which the point does not have
	Mode     string    `json:"mode"` // as ls shows it
	UID      uint32    `json:"uid"`
	GID      uint32    `json:"gid"`
	Size     int64     `json:"size"`             // bytes, of a file
	Modified time.Time `json:"modified"`         // UTC
	Target   string    `json:"target,omitempty"` // of a link

	// Raw is the name byte for byte, where it is no UTF-8.
	Raw []byte `json:"raw,omitempty"`
}

// Missing says that a path is not in a tree.
type Missing struct {
	Path    string // that was asked for
	Nearest string // the nearest folder above it that is there
	Why     string // what is in the way there, "" when there is just nothing
}

func (m *Missing) Error() string {
	if m.Why != "" {
		return fmt.Sprintf("%s: %s", m.Path, m.Why)
	}
	return m.Path + ": no such file or folder"
}

// Is makes it an os.ErrNotExist.
func (m *Missing) Is(target error) bool { return target == os.ErrNotExist }

// clean is a path below the root.
func clean(name string) string { return path.Clean("/" + name)[1:] }

func local(name string) string {
	if name = clean(name); name == "" {
		return "."
	}
	return name
}

// List says what is in a folder, by name; of anything else it is that alone.
func (t Tree) List(name string) ([]Entry, error) {
	name = local(name)
	info, err := t.stat(name)
	if err != nil {
		return nil, err
	}
	if !info.IsDir() || t.absent(info) {
		e, err := t.entry(name)
		return []Entry{e}, err
	}
	names, err := t.names(name)
	if err != nil {
		return nil, err
	}
	out := make([]Entry, 0, len(names))
	for _, n := range names {
		e, err := t.entry(path.Join(name, n))
		if err != nil {
			return out, err
		}
		out = append(out, e)
	}
	return out, nil
}

// names lists a folder, sorted.
func (t Tree) names(name string) (names []string, err error) {
	d, err := t.Root.Open(name)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, d.Close()) }()
	names, err = d.Readdirnames(-1)
	slices.Sort(names)
	return names, err
}

func (t Tree) absent(info iofs.FileInfo) bool { return t.Absent != nil && t.Absent(info) }

// entry describes one name and follows no link.
func (t Tree) entry(name string) (Entry, error) {
	info, err := t.Root.Lstat(name)
	if err != nil {
		return Entry{}, err
	}
	e := Entry{Name: path.Base(name), Kind: kind(info), Mode: mode(info.Mode()), Modified: info.ModTime().UTC()}
	if valid := strings.ToValidUTF8(e.Name, "\ufffd"); valid != e.Name {
		e.Raw = []byte(e.Name)
	}
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		e.UID, e.GID = st.Uid, st.Gid
	}
	switch {
	case t.absent(info):
		e.Kind = Gone
	case e.Kind == File:
		e.Size = info.Size()
	case e.Kind == Link:
		e.Target, err = t.Root.Readlink(name)
	}
	return e, err
}

func kind(info iofs.FileInfo) string {
	switch m := info.Mode(); {
	case m.IsRegular():
		return File
	case m.IsDir():
		return Folder
	case m&iofs.ModeSymlink != 0:
		return Link
	}
	return Other
}

// mode is how ls shows it.
func mode(m iofs.FileMode) string {
	text := []byte("-" + m.Perm().String()[1:])
	for bit, letter := range map[iofs.FileMode]byte{iofs.ModeDir: 'd', iofs.ModeSymlink: 'l', iofs.ModeNamedPipe: 'p', iofs.ModeSocket: 's'} {
		if m&bit != 0 {
			text[0] = letter
		}
	}
	if m&iofs.ModeDevice != 0 {
		text[0] = 'b'
		if m&iofs.ModeCharDevice != 0 {
			text[0] = 'c'
		}
	}
	special := func(at int, bit iofs.FileMode, letter byte) {
		if m&bit == 0 {
			return
		}
		if text[at] == '-' {
			letter -= 'a' - 'A'
		}
		text[at] = letter
	}
	special(3, iofs.ModeSetuid, 's')
	special(6, iofs.ModeSetgid, 's')
	special(9, iofs.ModeSticky, 't')
	return string(text)
}

// stat looks at a path, through links that stay in the tree.
func (t Tree) stat(name string) (iofs.FileInfo, error) {
	info, err := t.Root.Stat(name)
	if err == nil {
		return info, nil
	}
	return nil, t.explain(name, err)
}

// explain says of a path that cannot be opened how far it leads.
func (t Tree) explain(name string, err error) error {
	at := ""
	for part := range strings.SplitSeq(clean(name), "/") {
		next := path.Join(at, part)
		info, stepErr := t.Root.Lstat(next)
		if errors.Is(stepErr, os.ErrNotExist) || errors.Is(stepErr, syscall.ENOTDIR) {
			return &Missing{Path: name, Nearest: at}
		}
		if stepErr != nil {
			return err
		}
		if t.absent(info) {
			return &Missing{Path: name, Nearest: at, Why: fmt.Sprintf("%s is a dataset of its own, and not in this point", next)}
		}
		if info.Mode()&iofs.ModeSymlink != 0 {
			if _, followed := t.Root.Stat(next); followed != nil {
				target, _ := t.Root.Readlink(next)
				return &Missing{Path: name, Nearest: at, Why: fmt.Sprintf("%s is a symbolic link to %s, which is not below this dataset, and is not followed", next, target)}
			}
		}
		at = next
	}
	return err
}

// Open opens a plain file to read. It never waits for a pipe.
func (t Tree) Open(name string) (*os.File, error) {
	name = local(name)
	info, err := t.stat(name)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is a %s: %w", name, kind(info), ErrNoFile)
	}
	return t.Root.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0)
}

// Cat writes a file out.
func (t Tree) Cat(name string, w io.Writer) (err error) {
	f, err := t.Open(name)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	_, err = io.Copy(w, f)
	return err
}
