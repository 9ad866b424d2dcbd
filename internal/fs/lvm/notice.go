package lvm

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// noticeMax bounds what is kept for people to read, in bytes.
const noticeMax = 64 << 10

// notice keeps a line for whoever calls Tend next, in this process or another:
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
		return f.Close() // nobody reads them; the newest matter least then
	}
	_, err = f.WriteString(line) // one write: lines of several processes do not mix
	return errors.Join(err, f.Close())
}

// notices takes what was kept.
func (d *Driver) notices() ([]string, error) {
	file := filepath.Join(d.state, "notices")
	taken := file + ".taken"
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
