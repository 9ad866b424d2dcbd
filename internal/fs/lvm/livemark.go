package lvm

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"
)

// liveKept is for how long nobody takes the mark away, after it was made and
// after a boot: the snapshots that it was made for may be about to be taken, and
// the disks that they lie on about to be found.
const liveKept = 30 * time.Minute

// Live tells, without asking LVM, whether snapshots of ours may be there that
// have to be watched. It outlives a boot, and needs no rights but to look into
// the state directory.
func (d *Driver) Live() bool {
	_, err := os.Stat(d.liveFile())
	return err == nil
}

func (d *Driver) liveFile() string { return filepath.Join(d.state, "live") }

// markLive is called before snapshots are taken.
func (d *Driver) markLive() error {
	if _, err := d.stateDir(); err != nil {
		return err
	}
	if err := touch(d.liveFile()); err != nil {
		return fmt.Errorf("mark that snapshots have to be watched: %w", err)
	}
	return nil
}

// noteLive makes the mark what LVM says, on a host that is up for so long.
func (d *Driver) noteLive(all volumes, up time.Duration) error {
	st, err := os.Stat(d.liveFile())
	marked := err == nil
	switch live := slices.ContainsFunc(all, isOurs); {
	case live == marked:
		return nil
	case live:
		return d.markLive()
	case min(time.Since(st.ModTime()), up) < liveKept:
		return nil
	}
	if err := os.Remove(d.liveFile()); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("take away the mark of snapshots to be watched: %w", err)
	}
	return nil
}
