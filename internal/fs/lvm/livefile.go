package lvm

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"
)

// liveKept is how long the file live stays at least, after it was made and after
// a boot. Until then the snapshots that it was made for may still have to be
// taken, or the disks that they lie on still have to be found.
const liveKept = 30 * time.Minute

// Live tells, without asking LVM, whether there may be snapshots of ours that
// have to be watched. It goes by the file live in the state directory, which
// outlives a boot and which every user may look for.
func (d *Driver) Live() bool {
	_, err := os.Stat(d.liveFile())
	return err == nil
}

func (d *Driver) liveFile() string { return filepath.Join(d.state, "live") }

// makeLiveFile is called before snapshots are taken.
func (d *Driver) makeLiveFile() error {
	if _, err := d.stateDir(); err != nil {
		return err
	}
	if err := touch(d.liveFile()); err != nil {
		return fmt.Errorf("note that snapshots have to be watched: %w", err)
	}
	return nil
}

// updateLiveFile makes or removes the file by what LVM says, on a host that is
// up for so long.
func (d *Driver) updateLiveFile(all volumes, up time.Duration) error {
	st, err := os.Stat(d.liveFile())
	exists := err == nil
	switch live := slices.ContainsFunc(all, isOurs); {
	case live == exists:
		return nil
	case live:
		return d.makeLiveFile()
	case min(time.Since(st.ModTime()), up) < liveKept:
		return nil
	}
	if err := os.Remove(d.liveFile()); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("note that no snapshots have to be watched: %w", err)
	}
	return nil
}
