// Package dir is a ship.Store on a directory: another disk, or something that
// a network filesystem brings here. Objects are plain files, so that cp, rsync
// and docs/restore-by-hand.sh work on them. It creates folders below the
// directory, and never the directory itself: a disk that is not mounted must
// not be mistaken for an empty store. Neither is one that is unmounted while
// the store is used: see root.go.
package dir

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"

	"snapd/internal/advice"
	"snapd/internal/ship"
)

// tmpDir holds objects that are being written. A dot begins no key, so it can
// never be listed.
const tmpDir = ".tmp"

const namingAttempts = 10

// Store keeps objects as files below a directory.
type Store struct {
	root  string
	calls calls

	// folders is held while folders are made durable or removed, so that
	// no task of this process relies on one that is not durable yet.
	folders sync.Mutex

	identity
	reserved sync.Once
}

// New makes a store of a directory, which need not exist yet: then nothing is
// found in it, and nothing can be put there before Make.
func New(root string) (*Store, error) {
	abs, err := filepath.Abs(root)
	if err != nil {
		return nil, fmt.Errorf("directory store %s: %w", root, err)
	}
	return &Store{root: abs, calls: systemCalls()}, nil
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
	if err := ship.CheckKey(key); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	root, done, err := s.use()
	if err != nil {
		return fmt.Errorf("put %s: %w", key, err)
	}
	defer done()
	if ifAbsent && key != idKey {
		// What commits something is put if absent.
		if err := s.checkID(root); err != nil {
			return fmt.Errorf("put %s: %w", key, err)
		}
	}
	err = s.put(ctx, root, key, body, ifAbsent)
	switch {
	case errors.Is(err, fs.ErrExist):
		return fmt.Errorf("put %s: %w", key, ship.ErrExists)
	case err != nil && ctx.Err() != nil:
		return ctx.Err()
	case err != nil:
		return fmt.Errorf("put %s: %w", key, s.explain(err))
	}
	if key == idKey {
		s.rememberID(body)
	}
	s.reserved.Do(func() { s.reserve(root) })
	return nil
}

func (s *Store) put(ctx context.Context, root *os.Root, key string, body []byte, ifAbsent bool) error {
	aside, err := s.writeAside(root, body)
	if isFull(err) && strings.HasPrefix(key, ledgerPrefix) && root.Remove(reserveName) == nil {
		aside, err = s.writeAside(root, body)
	}
	if err != nil {
		return err
	}
	defer root.Remove(aside) //nolint:errcheck // gone already if it was renamed
	for range namingAttempts {
		if err := ctx.Err(); err != nil {
			return err
		}
		err = s.makeFolders(root, path.Dir(key))
		switch {
		case err != nil:
		case ifAbsent:
			err = s.nameIfAbsent(root, aside, key)
		default:
			err = root.Rename(aside, key)
		}
		// A Delete beside us, of this process or another, may have removed
		// the folder it emptied, or one above it.
		if !errors.Is(err, fs.ErrNotExist) {
			break
		}
	}
	if err != nil {
		return err
	}
	return s.syncFolder(root, path.Dir(key))
}

func (s *Store) writeAside(root *os.Root, body []byte) (name string, err error) {
	if err := root.Mkdir(tmpDir, 0o700); err == nil {
		if err := s.syncFolder(root, "."); err != nil {
			return "", err
		}
	} else if !errors.Is(err, fs.ErrExist) {
		return "", err
	}
	f, name, err := createAside(root)
	if err != nil {
		return "", err
	}
	_, err = f.Write(body)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return "", errors.Join(err, root.Remove(name))
	}
	return name, nil
}

func (s *Store) makeFolders(root *os.Root, folder string) error {
	s.folders.Lock()
	defer s.folders.Unlock()
	return s.makeFolder(root, folder)
}

// makeFolder makes a folder below the root and makes its name durable. One
// that is there keeps its mode: the user that made it readable for others meant it.
func (s *Store) makeFolder(root *os.Root, folder string) error {
	if folder == "." {
		return nil
	}
	if _, err := root.Lstat(folder); err == nil {
		return nil
	}
	parent := path.Dir(folder)
	if err := s.makeFolder(root, parent); err != nil {
		return err
	}
	if err := root.Mkdir(folder, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return s.syncFolder(root, parent)
}

// Get is as ship.Store says.
func (s *Store) Get(_ context.Context, key string) (io.ReadCloser, error) {
	if err := ship.CheckKey(key); err != nil {
		return nil, err
	}
	root, done, err := s.use()
	if err != nil {
		return nil, fmt.Errorf("get %s: %w", key, err)
	}
	defer done()
	f, err := openObject(root, key)
	if err != nil {
		return nil, fmt.Errorf("get %s: %w", key, s.explain(err))
	}
	if key == idKey {
		if body, err := readID(root); err == nil {
			s.rememberID(body)
		}
	}
	return f, nil
}

// openObject opens a file, and follows no symbolic link: a user that can write into
// the directory must not make a reader open what lies elsewhere.
func openObject(root *os.Root, key string) (*os.File, error) {
	named, err := root.Lstat(key)
	if err != nil {
		return nil, err
	}
	if named.IsDir() {
		return nil, fmt.Errorf("%w: it is a folder", ship.ErrDamaged) // nothing can be put there as long as it is
	}
	if !named.Mode().IsRegular() {
		return nil, fmt.Errorf("%w: it is no file", ship.ErrDamaged) // a link or a pipe: it is there, and no object
	}
	f, err := root.Open(key)
	if err != nil {
		return nil, err
	}
	opened, err := f.Stat()
	if err == nil && !opened.Mode().IsRegular() {
		err = fmt.Errorf("%w: it is no file", ship.ErrNotFound)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// Stat is as ship.ObjectStater says. A directory has no ETags: what it holds is
// proved by reading it.
func (s *Store) Stat(_ context.Context, key string) (ship.Object, error) {
	if err := ship.CheckKey(key); err != nil {
		return ship.Object{}, err
	}
	root, done, err := s.use()
	if err != nil {
		return ship.Object{}, fmt.Errorf("stat %s: %w", key, err)
	}
	defer done()
	info, err := root.Lstat(key)
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("%w: it is no file", ship.ErrNotFound)
	}
	if err != nil {
		return ship.Object{}, fmt.Errorf("stat %s: %w", key, s.explain(err))
	}
	return ship.Object{Key: key, Size: info.Size(), Time: info.ModTime().UTC()}, nil
}

// List is as ship.Store says.
func (s *Store) List(ctx context.Context, prefix string, each func(ship.Object) error) error {
	// Only the folder that the prefix leads into can hold what it asks for.
	start := "."
	if i := strings.LastIndexByte(prefix, '/'); i >= 0 {
		start = prefix[:i]
		if err := ship.CheckKey(start); err != nil {
			return err
		}
	}
	root, done, err := s.use()
	if errors.Is(err, ship.ErrNoBucket) {
		return nil // never written to
	}
	if err != nil {
		return fmt.Errorf("list %s: %w", prefix, err)
	}
	defer done()
	sweep(root)
	return s.list(ctx, root, start, prefix, each)
}

func (s *Store) list(ctx context.Context, root *os.Root, folder, prefix string, each func(ship.Object) error) error {
	entries, err := readFolder(root, folder, prefix)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("list %s: %w", prefix, s.explain(err))
	}
	for _, e := range entries {
		if err := ctx.Err(); err != nil {
			return err
		}
		if e.info.IsDir() {
			if err := s.list(ctx, root, strings.TrimSuffix(e.key, "/"), prefix, each); err != nil {
				return err
			}
			continue
		}
		if !e.info.Mode().IsRegular() {
			continue
		}
		if err := each(ship.Object{Key: e.key, Size: e.info.Size(), Time: e.info.ModTime().UTC()}); err != nil {
			return err
		}
	}
	return nil
}

// entry is an object or, with a key that ends in a slash, a folder.
type entry struct {
	key  string
	info fs.FileInfo
}

// readFolder gives what a folder holds and the prefix asks for, ordered by the
// whole key, in which a folder's name is followed by a slash: "a-b" comes
// before "a/b", although "a" < "a-b".
func readFolder(root *os.Root, folder, prefix string) ([]entry, error) {
	f, err := root.Open(folder)
	if err != nil {
		return nil, err
	}
	names, err := f.Readdirnames(-1)
	if err = errors.Join(err, f.Close()); err != nil {
		return nil, err
	}
	var entries []entry
	for _, name := range names {
		key := path.Join(folder, name)
		if ship.CheckKey(key) != nil {
			continue // not ours
		}
		if !strings.HasPrefix(key, prefix) && !strings.HasPrefix(prefix, key+"/") {
			continue
		}
		// By its name and the root: the names that a folder's entries carry
		// lead through the whole path, and whatever is mounted there by now.
		info, err := root.Lstat(key)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		if info.IsDir() {
			key += "/"
		}
		entries = append(entries, entry{key, info})
	}
	slices.SortFunc(entries, func(a, b entry) int { return strings.Compare(a.key, b.key) })
	return entries, nil
}

// Delete is as ship.Store says. A folder that became empty goes too.
func (s *Store) Delete(_ context.Context, key string) error {
	if err := ship.CheckKey(key); err != nil {
		return err
	}
	root, done, err := s.use()
	if errors.Is(err, ship.ErrNoBucket) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("delete %s: %w", key, err)
	}
	defer done()
	err = root.Remove(key)
	switch {
	case errors.Is(err, syscall.ENOTEMPTY):
		return advice.With(fmt.Errorf("delete %s: it is a folder, and holds what is no object: %w", key, err),
			"look at what lies in %s, and move that folder away", filepath.Join(s.root, key))
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("delete %s: %w", key, s.explain(err))
	}
	s.folders.Lock()
	defer s.folders.Unlock()
	for folder := path.Dir(key); folder != "."; folder = path.Dir(folder) {
		if root.Remove(folder) != nil {
			break // not empty
		}
	}
	return nil
}

// explain gives an error of the system ship's name and says what to do.
func (s *Store) explain(err error) error {
	switch {
	case isFull(err):
		return advice.With(fmt.Errorf("directory %s is full: %w", s.root, err),
			"make room on its disk, or remove old points with: snapd prune, which gives back the room of what it drops at once; the next ship goes on where this one stopped")
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("%w: %w", ship.ErrNotFound, err)
	case errors.Is(err, syscall.EROFS):
		// To the agent's unit everything is read-only but what its drop-in names,
		// which is written when systemd learns of the configuration.
		return advice.With(fmt.Errorf("directory %s: %w: %w", s.root, ship.ErrDenied, err),
			"run: snapd schedule, which lets the agent write into the repositories that the configuration names now; if its filesystem is mounted read-only for all, see why with: findmnt -T %s", s.root)
	case errors.Is(err, fs.ErrPermission):
		return advice.With(fmt.Errorf("directory %s: %w: %w", s.root, ship.ErrDenied, err), "check owner, mode and mount options")
	case errors.Is(err, syscall.EIO), errors.Is(err, syscall.ESTALE), errors.Is(err, syscall.ETIMEDOUT):
		return fmt.Errorf("directory %s: %w: %w", s.root, ship.ErrUnavailable, err)
	}
	return err
}

func isFull(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT)
}
