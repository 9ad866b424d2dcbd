package hold

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"snapd/internal/advice"
	"snapd/internal/durable"

	"golang.org/x/sys/unix"
)

// Promise says on disk that a hook has yet to run. It is kept, by running the
// hook and calling Kept, by the process that made it, or by a later one when
// that one was killed. It outlives a power cut too: a hook that ran before a
// restore point may have left something on disk that the hook after it must
// undo.
type Promise struct {
	Group   string        `json:"group"`
	Made    time.Time     `json:"made"`
	ID      string        `json:"container"`
	Name    string        `json:"name"`
	User    string        `json:"user,omitempty"`
	Args    []string      `json:"command"`
	Timeout time.Duration `json:"timeout_ns"`

	// Mark is on the processes of the hook that was started before.
	Mark string `json:"mark"`

	path string
	file *os.File // locked for as long as its maker lives
}

// Hook is what was promised.
func (p *Promise) Hook() Hook {
	return Hook{Target: Target{ID: p.ID, Name: p.Name, User: p.User}, Args: p.Args}
}

const promisePrefix = "after-"

// Make writes the promise into dir, durably, before it returns. The directory
// is made if it is missing.
func (p *Promise) Make(dir string) (err error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	text, err := json.Marshal(p)
	if err != nil {
		return err
	}
	a, err := durable.Begin(dir)
	if err != nil {
		return err
	}
	// The name sorts by time.
	file := a.File()
	path := filepath.Join(dir, fmt.Sprintf("%s%020d-%s", promisePrefix, p.Made.UnixNano(), strings.TrimPrefix(filepath.Base(file.Name()), durable.Prefix)))
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("write down that a hook has yet to run: %w", err), gone(os.Remove(path)), a.Close())
		}
	}()
	// Before it has its name, so that no process takes it for a dead one's.
	if err := unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return err
	}
	if _, err := a.Write(append(text, '\n')); err != nil {
		return err
	}
	if err := a.Replace(path); err != nil {
		return err
	}
	p.file, p.path = file, path
	return nil
}

// gone is the error of removing a file that need not be there.
func gone(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// Kept removes the promise: its hook has run, or never can.
func (p *Promise) Kept() error {
	return errors.Join(durable.Remove(p.path), p.file.Close())
}

// Later leaves the promise to the next one.
func (p *Promise) Later() error { return p.file.Close() }

// Outstanding are the promises of dead processes, latest first: what was begun
// last is undone first. The caller keeps each, or leaves it with Later;
// no other process gets it meanwhile. What cannot be read is in the error.
func Outstanding(dir string) ([]*Promise, error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var out []*Promise
	var errs error
	for _, e := range slices.Backward(entries) {
		path := filepath.Join(dir, e.Name())
		switch {
		case strings.HasPrefix(e.Name(), promisePrefix):
			p, err := readPromise(path)
			if err != nil {
				errs = errors.Join(errs, err)
			} else if p != nil {
				out = append(out, p)
			}
		case strings.HasPrefix(e.Name(), durable.Prefix):
			removeUnfinished(path)
		}
	}
	return out, errs
}

// readPromise returns nil for one whose maker lives, or that is kept by now.
func readPromise(path string) (_ *Promise, err error) {
	f, err := lockDead(path)
	if f == nil || err != nil {
		return nil, err
	}
	text, err := io.ReadAll(f)
	p := &Promise{}
	if err == nil {
		err = json.Unmarshal(text, p)
	}
	if err != nil {
		return nil, errors.Join(advice.With(fmt.Errorf("read which hook has yet to run: %s: %w", path, err), "look at the file, run by hand what it names, and remove it"), f.Close())
	}
	p.path, p.file = path, f
	return p, nil
}

// lockDead opens and locks the file; nil if a living process has locked it.
func lockDead(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|unix.O_NOFOLLOW, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil //nolint:nilnil // nothing to do, and no error
	}
	if err != nil {
		return nil, err
	}
	var st unix.Stat_t
	err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if err == nil {
		err = unix.Fstat(int(f.Fd()), &st)
	}
	if errors.Is(err, unix.EWOULDBLOCK) || err == nil && st.Nlink == 0 {
		return nil, f.Close()
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// removeUnfinished removes what a process left that died while it wrote; by
// its age, since a process that has just begun to write has no lock yet.
func removeUnfinished(path string) {
	if info, err := os.Lstat(path); err == nil && time.Since(info.ModTime()) > time.Hour {
		_ = os.Remove(path) // it takes room and disturbs no hook
	}
}
