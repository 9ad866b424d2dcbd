package lvm

import (
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"
)

const (
	// noticeMax bounds what is kept for people to read, in bytes.
	noticeMax = 64 << 10
	// saidAgain is after how long a state that lasts is told of again.
	saidAgain = 6 * time.Hour
)

// States that are told of once while they last; the UUID of a pool or snapshot
// stands behind.
const (
	stays = "stays-" // a pool that suffers keeps snapshots
	tight = "tight-" // a classic snapshot that cannot be extended
)

// notice keeps a line for the next call of Tend, in this process or another:
// what is said here must reach a person.
func (d *Driver) notice(format string, args ...any) error {
	dir, err := d.stateDir()
	if err != nil {
		return err
	}
	f, err := os.OpenFile(filepath.Join(dir, "notices"), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return fmt.Errorf("keep a notice: %w", err)
	}
	line := strings.ReplaceAll(fmt.Sprintf(format, args...), "\n", " ") + "\n"
	if st, err := f.Stat(); err == nil && st.Size() > noticeMax {
		return f.Close() // no process has read them for long; the newest matter least then
	}
	_, err = f.WriteString(line) // one write: lines of several processes do not mix
	return errors.Join(err, f.Close())
}

// noticeOnce is notice for a state that lasts. It is told of once, by whichever
// process, and again only after a long time, or when it ended in between.
func (d *Driver) noticeOnce(state, format string, args ...any) error {
	dir, err := d.stateDir("said")
	if err != nil {
		return err
	}
	file := filepath.Join(dir, state)
	if st, err := os.Stat(file); err == nil && time.Since(st.ModTime()) < saidAgain {
		return nil
	}
	if err := d.notice(format, args...); err != nil {
		return err
	}
	if err := touch(file); err != nil {
		return fmt.Errorf("keep what was told: %w", err)
	}
	return nil
}

// touch makes an empty file, or one that is there new.
func touch(file string) error {
	now := time.Now()
	return errors.Join(os.WriteFile(file, nil, 0o600), os.Chtimes(file, now, now))
}

// forgetSaid forgets what was told of states that have ended.
func (d *Driver) forgetSaid(all volumes) error {
	entries, err := os.ReadDir(filepath.Join(d.state, "said"))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read what was told: %w", err)
	}
	var failed error
	for _, e := range entries {
		uuid := e.Name()
		if at := strings.IndexByte(uuid, '-'); at >= 0 {
			uuid = uuid[at+1:]
		}
		v, there := all.byUUID(uuid)
		if there && (v.isPool() && v.suffers() || !v.isPool() && v.dataUse >= classicFull) {
			continue
		}
		err := os.Remove(filepath.Join(d.state, "said", e.Name()))
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			failed = errors.Join(failed, err)
		}
	}
	return failed
}

// unread are the notices that Tend has not taken yet. They stay.
func (d *Driver) unread() ([]string, error) {
	text, err := os.ReadFile(filepath.Join(d.state, "notices"))
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the notices: %w", err)
	}
	return strings.Split(strings.TrimSpace(string(text)), "\n"), nil
}

// notices takes what was kept.
func (d *Driver) notices() ([]string, error) {
	file := filepath.Join(d.state, "notices")
	taken := file + "." + rand.Text() // others may take some at the same time
	if err := os.Rename(file, taken); err != nil {
		if errors.Is(err, os.ErrNotExist) {
			return nil, nil
		}
		return nil, fmt.Errorf("read the notices: %w", err)
	}
	text, err := os.ReadFile(taken)
	if err := errors.Join(err, os.Remove(taken)); err != nil {
		return nil, fmt.Errorf("read the notices: %w", err)
	}
	return strings.Split(strings.TrimSpace(string(text)), "\n"), nil
}
