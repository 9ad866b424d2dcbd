// Package dir is a ship.Store on a directory: another disk, or something that
// a network filesystem brings here. Objects are plain files, so that cp, rsync
// and docs/restore-by-hand.sh work on them. It creates folders below the
// directory, and never the directory itself: a disk that is not mounted must
// not be mistaken for an empty store.
package dir

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"snapd/internal/advice"
	"snapd/internal/durable"
	"snapd/internal/ship"
)

// tmpDir holds objects that are being written. A dot begins no key, so it can
// never be listed.
const tmpDir = ".tmp"

// leftoverAge is after how long a file in tmpDir belongs to a process that
// died.
const leftoverAge = 24 * time.Hour

const namingAttempts = 10

// Store keeps objects as files below a directory.
type Store struct {
	root string

	// folders is held while folders are made durable or removed, so that
	// nobody of this process relies on one that is not durable yet.
	folders sync.Mutex
}

// New makes a store of a directory, which need not exist yet: then nothing is
// found in it, and nothing can be put there before Make.
func New(root string) (*Store, error) {
	abs, err := filepath.Abs(root)
	if err != nil {
		return nil, fmt.Errorf("directory store %s: %w", root, err)
	}
	return &Store{root: abs}, nil
}

// Make makes the directory, for a repository that is about to be created.
func (s *Store) Make() error {
	if err := os.MkdirAll(s.root, 0o700); err != nil {
		return fmt.Errorf("make directory store: %w", err)
	}
	return nil
}

// Put is as ship.Store says: written aside, synced, then named.
func (s *Store) Put(ctx context.Context, key string, body []byte, ifAbsent bool) error {
	name, err := s.file(key)
	if err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	aside, err := s.writeAside(body)
	if err != nil {
		return fmt.Errorf("put %s: %w", key, s.explain(err))
	}
	defer aside.Close() //nolint:errcheck // it has its name, or is of no use
	give := aside.Replace
	if ifAbsent {
		give = aside.Create
	}
	for range namingAttempts {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err = s.makeFolders(filepath.Dir(name)); err == nil {
			err = give(name)
		}
		// A Delete beside us, of this process or another, may have removed
		// the folder it emptied, or one above it.
		if !errors.Is(err, fs.ErrNotExist) {
			break
		}
	}
	if errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("put %s: %w", key, ship.ErrExists)
	}
	if err != nil {
		return fmt.Errorf("put %s: %w", key, s.explain(err))
	}
	return nil
}

func (s *Store) writeAside(body []byte) (*durable.Aside, error) {
	tmp := filepath.Join(s.root, tmpDir)
	if err := os.Mkdir(tmp, 0o700); err == nil {
		if err := durable.SyncDir(s.root); err != nil {
			return nil, err
		}
	} else if !errors.Is(err, fs.ErrExist) {
		return nil, err
	}
	aside, err := durable.Begin(tmp)
	if err != nil {
		return nil, err
	}
	if _, err := aside.Write(body); err != nil {
		return nil, errors.Join(err, aside.Close())
	}
	return aside, nil
}

func (s *Store) makeFolders(folder string) error {
	s.folders.Lock()
	defer s.folders.Unlock()
	return s.makeFolder(folder)
}

// makeFolder makes a folder below the root and makes its name durable.
func (s *Store) makeFolder(folder string) error {
	if folder == s.root {
		return nil
	}
	if _, err := os.Lstat(folder); err == nil {
		return nil
	}
	parent := filepath.Dir(folder)
	if err := s.makeFolder(parent); err != nil {
		return err
	}
	if err := os.Mkdir(folder, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return durable.SyncDir(parent)
}

// Get is as ship.Store says.
func (s *Store) Get(_ context.Context, key string) (io.ReadCloser, error) {
	name, err := s.file(key)
	if err != nil {
		return nil, err
	}
	f, err := os.OpenFile(name, os.O_RDONLY|syscall.O_NOFOLLOW, 0)
	if err != nil {
		return nil, fmt.Errorf("get %s: %w", key, s.explain(err))
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("%w: it is no file", ship.ErrNotFound)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("get %s: %w", key, s.explain(err)), f.Close())
	}
	return f, nil
}

// List is as ship.Store says.
func (s *Store) List(ctx context.Context, prefix string, each func(ship.Object) error) error {
	s.sweep()
	// Only the folder that the prefix leads into can hold what it asks for.
	start := ""
	if i := strings.LastIndexByte(prefix, '/'); i >= 0 {
		start = prefix[:i]
		if err := ship.CheckKey(start); err != nil {
			return err
		}
	}
	return s.list(ctx, start, prefix, each)
}

func (s *Store) list(ctx context.Context, folder, prefix string, each func(ship.Object) error) error {
	entries, err := os.ReadDir(filepath.Join(s.root, filepath.FromSlash(folder)))
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("list %s: %w", prefix, s.explain(err))
	}
	for _, e := range sortByKey(entries, folder, prefix) {
		if err := ctx.Err(); err != nil {
			return err
		}
		if e.IsDir() {
			if err := s.list(ctx, strings.TrimSuffix(e.key, "/"), prefix, each); err != nil {
				return err
			}
			continue
		}
		info, err := e.Info()
		if errors.Is(err, fs.ErrNotExist) || err == nil && !info.Mode().IsRegular() {
			continue
		}
		if err != nil {
			return fmt.Errorf("list %s: %w", e.key, s.explain(err))
		}
		if err := each(ship.Object{Key: e.key, Size: info.Size(), Time: info.ModTime().UTC()}); err != nil {
			return err
		}
	}
	return nil
}

// entry is an object or, with a key that ends in a slash, a folder.
type entry struct {
	key string
	fs.DirEntry
}

// sortByKey orders what a folder holds and the prefix asks for by the whole
// key, in which a folder's name is followed by a slash: "a-b" comes before
// "a/b", although "a" < "a-b".
func sortByKey(entries []fs.DirEntry, folder, prefix string) []entry {
	var sorted []entry
	for _, e := range entries {
		key := e.Name()
		if folder != "" {
			key = folder + "/" + key
		}
		if ship.CheckKey(key) != nil {
			continue // not ours
		}
		if e.IsDir() {
			key += "/"
		}
		if strings.HasPrefix(key, prefix) || e.IsDir() && strings.HasPrefix(prefix, key) {
			sorted = append(sorted, entry{key, e})
		}
	}
	slices.SortFunc(sorted, func(a, b entry) int { return strings.Compare(a.key, b.key) })
	return sorted
}

// sweep removes what processes that died left behind. It is a courtesy: what
// goes wrong with it is nobody's trouble.
func (s *Store) sweep() {
	tmp := filepath.Join(s.root, tmpDir)
	entries, _ := os.ReadDir(tmp)
	for _, e := range entries {
		if info, err := e.Info(); err == nil && time.Since(info.ModTime()) > leftoverAge {
			_ = os.Remove(filepath.Join(tmp, e.Name()))
		}
	}
}

// Delete is as ship.Store says. A folder that became empty goes too.
func (s *Store) Delete(_ context.Context, key string) error {
	name, err := s.file(key)
	if err != nil {
		return err
	}
	if err := os.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("delete %s: %w", key, s.explain(err))
	}
	s.folders.Lock()
	defer s.folders.Unlock()
	for folder := filepath.Dir(name); folder != s.root; folder = filepath.Dir(folder) {
		if os.Remove(folder) != nil {
			break // not empty
		}
	}
	return nil
}

// file is where an object lies. Keys that could lead elsewhere are refused.
func (s *Store) file(key string) (string, error) {
	if err := ship.CheckKey(key); err != nil {
		return "", err
	}
	return filepath.Join(s.root, filepath.FromSlash(key)), nil
}

// explain gives an error of the system ship's name and says what to do.
func (s *Store) explain(err error) error {
	switch {
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return advice.With(fmt.Errorf("directory %s is full: %w", s.root, err), "make room, or remove old points with: snapd prune; the next ship goes on where this one stopped")
	case errors.Is(err, fs.ErrNotExist):
		if _, serr := os.Stat(s.root); errors.Is(serr, fs.ErrNotExist) {
			// Both: nothing is found in it, and nothing can be put into it.
			return advice.With(fmt.Errorf("directory %s: %w: %w", s.root, ship.ErrNoBucket, ship.ErrNotFound), "mount its disk; if the directory is right and new, run: snapd init")
		}
		return fmt.Errorf("%w: %w", ship.ErrNotFound, err)
	case errors.Is(err, fs.ErrPermission), errors.Is(err, syscall.EROFS):
		return advice.With(fmt.Errorf("directory %s: %w: %w", s.root, ship.ErrDenied, err), "check owner, mode and mount options")
	case errors.Is(err, syscall.EIO), errors.Is(err, syscall.ESTALE), errors.Is(err, syscall.ETIMEDOUT):
		return fmt.Errorf("directory %s: %w: %w", s.root, ship.ErrUnavailable, err)
	}
	return err
}
