package dir

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"sync"
	"syscall"
	"time"

	"snapd/internal/advice"
	"snapd/internal/ship"

	"golang.org/x/sys/unix"
)

const (
	// idKey is the object that says which repository this is.
	idKey = "repository"
	// maxID bounds it, in bytes.
	maxID = 64 << 10
)

// identity is what a store knows of its directory: which one it is. All that
// the store does goes relative to a descriptor of the root, which is open
// while something is under way: then its disk cannot be unmounted, short of by
// force, and a path that leads elsewhere by now is not followed. Between two
// calls the descriptor is closed, so that a store that is not used keeps no
// disk from being unmounted; what is opened next has to be the same folder, or
// to hold the same repository.
type identity struct {
	mu    sync.Mutex
	open  *os.Root // while users > 0
	users int
	known bool
	file  fs.FileInfo // device and inode of the root, if known

	id [sha256.Size]byte // digest of the object that says which repository this is; zero until it was read
}

// use opens the root, or shares the open one, until done is called.
func (s *Store) use() (root *os.Root, done func(), err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.users == 0 {
		if s.open, err = s.openRoot(); err != nil {
			return nil, nil, err
		}
	}
	s.users++
	return s.open, s.leave, nil
}

func (s *Store) leave() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.users--; s.users == 0 {
		_ = s.open.Close() // nothing is written through it
		s.open = nil
	}
}

// openRoot opens the root and compares it with what it was.
func (s *Store) openRoot() (*os.Root, error) {
	root, err := os.OpenRoot(s.root)
	switch {
	case errors.Is(err, fs.ErrNotExist) && !s.known:
		// Both: nothing is found in it, and nothing can be put into it.
		return nil, advice.With(fmt.Errorf("directory %s: %w: %w", s.root, ship.ErrNoBucket, ship.ErrNotFound), "mount its disk; if the directory is right and new, run: snapd init")
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ENOTDIR) && s.known:
		return nil, s.gone("it is not there any more")
	case err != nil:
		return nil, s.explain(err)
	}
	file, err := root.Stat(".")
	if err == nil && s.known && !os.SameFile(file, s.file) && !s.hasID(root) {
		err = s.gone("another folder lies there now")
	}
	if err != nil {
		return nil, errors.Join(err, root.Close())
	}
	s.known, s.file = true, file
	return root, nil
}

// gone is for a disk that was unmounted while the store was used.
func (s *Store) gone(how string) error {
	return advice.With(fmt.Errorf("directory %s: %w: %s: its disk was unmounted, or another one mounted", s.root, ship.ErrUnavailable, how),
		"mount its disk again; the next ship goes on where this one stopped")
}

func readID(root *os.Root) ([]byte, error) {
	f, err := openObject(root, idKey)
	if err != nil {
		return nil, err
	}
	body, err := io.ReadAll(io.LimitReader(f, maxID))
	return body, errors.Join(err, f.Close())
}

func (s *Store) rememberID(body []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.id = sha256.Sum256(body)
}

// hasID tells whether a root holds the repository that was read before.
func (s *Store) hasID(root *os.Root) bool {
	body, err := readID(root)
	return err == nil && s.id != [sha256.Size]byte{} && sha256.Sum256(body) == s.id
}

// checkID refuses to commit anything to another repository than the one that
// was opened.
func (s *Store) checkID(root *os.Root) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.id == [sha256.Size]byte{} || s.hasID(root) {
		return nil
	}
	return s.gone("the repository in it is not the one that was opened")
}

// Space is as ship.Spacer says: what this user may still fill.
func (s *Store) Space(_ context.Context) (free, total int64, err error) {
	root, done, err := s.use()
	if err != nil {
		return 0, 0, fmt.Errorf("ask for room: %w", err)
	}
	defer done()
	free, total, err = space(root)
	if err != nil {
		return 0, 0, fmt.Errorf("ask for room: %w", s.explain(err))
	}
	return free, total, nil
}

func space(root *os.Root) (free, total int64, err error) {
	f, err := root.Open(".")
	if err != nil {
		return 0, 0, err
	}
	var st unix.Statfs_t
	err = unix.Fstatfs(int(f.Fd()), &st)
	if err = errors.Join(err, f.Close()); err != nil {
		return 0, 0, err
	}
	unit := st.Frsize
	if unit == 0 {
		unit = st.Bsize
	}
	return int64(st.Bavail) * unit, int64(st.Blocks) * unit, nil
}

const (
	// ledgerPrefix begins the keys of what says that points are removed.
	ledgerPrefix = "meta/ledger/"
	// reserveName is a file that is given up for such a record when the disk is
	// full: without it nothing could be removed, and no room made.
	reserveName  = ".reserve"
	reserveBytes = 1 << 20
	// reserveFrom is how much has to be free for the reserve to be made, in
	// bytes: a small disk is not to be filled with it.
	reserveFrom = 64 << 20
)

// reserve makes the reserve where there is none. It is a courtesy: where it
// cannot be made, the disk is one without.
func (s *Store) reserve(root *os.Root) {
	if _, err := root.Lstat(reserveName); err == nil {
		return
	}
	if free, _, err := space(root); err != nil || free < reserveFrom {
		return
	}
	f, err := root.OpenFile(reserveName, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return
	}
	err = unix.Fallocate(int(f.Fd()), 0, 0, reserveBytes)
	if err != nil {
		_, err = f.Write(make([]byte, reserveBytes))
	}
	if errors.Join(err, f.Close()) != nil {
		_ = root.Remove(reserveName)
	}
}

// createAside makes a file that no other process has, with mode 0600.
func createAside(root *os.Root) (*os.File, string, error) {
	var chance [8]byte
	rand.Read(chance[:])
	name := tmpDir + "/put-" + hex.EncodeToString(chance[:])
	f, err := root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	return f, name, err
}

// leftoverAge is after how long a file in tmpDir belongs to a process that
// died.
const leftoverAge = 24 * time.Hour

// sweep removes what processes that died left behind. It is a courtesy: what
// goes wrong with it troubles no caller. How old a file is says the clock of
// the filesystem: ours may be wrong by years, and another process may be
// writing that file.
func sweep(root *os.Root) {
	f, err := root.Open(tmpDir)
	if err != nil {
		return
	}
	names, _ := f.Readdirnames(-1)
	_ = f.Close()
	var now time.Time
	for _, name := range names {
		name = tmpDir + "/" + name
		info, err := root.Lstat(name)
		if err != nil || time.Since(info.ModTime()) <= leftoverAge {
			continue
		}
		if now.IsZero() {
			if now = filesystemTime(root); now.IsZero() {
				return
			}
		}
		if now.Sub(info.ModTime()) > leftoverAge {
			_ = root.Remove(name)
		}
	}
}

// filesystemTime is what the filesystem says of a file that was just made; zero
// when none can be made.
func filesystemTime(root *os.Root) time.Time {
	f, name, err := createAside(root)
	if err != nil {
		return time.Time{}
	}
	defer root.Remove(name) //nolint:errcheck // the next sweep does it
	info, err := f.Stat()
	if errors.Join(err, f.Close()) != nil {
		return time.Time{}
	}
	return info.ModTime()
}
