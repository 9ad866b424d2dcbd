package lvm

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"snapd/internal/fs"
	"snapd/internal/proc"
	"snapd/internal/run"

	"golang.org/x/sys/unix"
)

// Filesystems lists those that this host has mounted on the given volumes,
// also through an encrypted device or a partition on one. A volume that is
// used raw, as the disk of a virtual machine or by a database, has none.
func (d *Driver) Filesystems(ctx context.Context, datasets []fs.Dataset) ([]fs.Filesystem, error) {
	found, err := d.filesystems(ctx, datasets)
	if err != nil {
		return nil, fmt.Errorf("list the filesystems on logical volumes: %w", err)
	}
	return found, nil
}

func (d *Driver) filesystems(ctx context.Context, datasets []fs.Dataset) ([]fs.Filesystem, error) {
	all, err := d.list(ctx)
	if err != nil {
		return nil, err
	}
	mounts, err := proc.Host()
	if err != nil {
		return nil, err
	}
	var found []fs.Filesystem
	var needed []need
	for _, dataset := range datasets {
		v, err := all.dataset(dataset)
		if err != nil {
			return nil, err
		}
		if !v.active() {
			continue
		}
		above, err := stack(v.kernel())
		if err != nil {
			return nil, err
		}
		m, ok := mountedOn(mounts, above)
		if !ok {
			continue
		}
		if needed == nil {
			if needed, err = d.needs(ctx); err != nil {
				return nil, err
			}
		}
		f, err := d.filesystem(ctx, dataset, m, above, needed)
		if err != nil {
			return nil, err
		}
		found = append(found, f)
	}
	return found, nil
}

// layer is a device that lies on a volume, directly or not.
type layer struct {
	proc.Device
	shared bool // it lies on other devices too
}

// stack lists a device and all that lie on it. The volume's own snapshots,
// which lie on it for device-mapper, are no part of that.
func stack(dev proc.Device) ([]layer, error) {
	found := []layer{{Device: dev}}
	for i := 0; i < len(found); i++ {
		above, err := holders(found[i].Device)
		if err != nil {
			return nil, err
		}
		for _, h := range above {
			kind, err := dmUUID(h)
			if err != nil {
				return nil, err
			}
			if strings.HasPrefix(kind, "LVM-") || slices.ContainsFunc(found, func(l layer) bool { return l.Device == h }) {
				continue
			}
			below, err := slaves(h)
			if err != nil {
				return nil, err
			}
			found = append(found, layer{h, found[i].shared || len(below) > 1})
		}
	}
	return found, nil
}

// mountedOn finds the mount of a filesystem on one of the devices; of several
// mounts of it, one of its whole.
func mountedOn(mounts proc.Table, on []layer) (proc.Mount, bool) {
	best := -1
	for i, m := range mounts {
		dev := m.Device
		if dev.Major == 0 && strings.HasPrefix(m.Source, "/dev/") { // Btrfs has numbers of its own
			if source, err := proc.Node(m.Source); err == nil {
				dev = source
			}
		}
		if !slices.ContainsFunc(on, func(l layer) bool { return l.Device == dev }) {
			continue
		}
		if best < 0 || m.Root == "/" && mounts[best].Root != "/" {
			best = i
		}
	}
	if best < 0 {
		return proc.Mount{}, false
	}
	return mounts[best], true
}

func (d *Driver) filesystem(ctx context.Context, dataset fs.Dataset, m proc.Mount, above []layer, needed []need) (fs.Filesystem, error) {
	f := fs.Filesystem{Dataset: dataset, Dir: m.Point, Type: m.Type}
	var st unix.Stat_t
	if err := unix.Stat(m.Point, &st); err != nil {
		f.Refuses = fmt.Sprintf("it cannot be looked at: %v", err)
		return f, nil
	}
	f.Device = st.Dev
	shared := slices.ContainsFunc(above, func(l layer) bool { return l.Device == m.Device && l.shared })
	switch {
	case m.Type != "ext4" && m.Type != "ext3" && m.Type != "ext2" && m.Type != "xfs":
		f.Refuses = fmt.Sprintf("it is %s, and on LVM snapd freezes only ext4 and xfs", m.Type)
	case shared:
		f.Refuses = "it lies on several devices, and a snapshot of this one alone would be torn"
	default:
		for _, n := range needed {
			if n.dev == st.Dev {
				f.Refuses = fmt.Sprintf("LVM needs %s, which lies on it, to take the snapshot", n.path)
				return f, nil
			}
		}
		var err error
		f.Refuses, err = d.refusesFrozen(ctx)
		return f, err
	}
	return f, nil
}

// need is something that lvcreate opens while filesystems are frozen.
type need struct {
	path string
	dev  uint64
}

// needs lists what lvcreate reads and writes in the window: its program and
// libraries, its configuration, its locks, where it keeps copies of its
// metadata (it is told not to write them then, but other LVM commands wait for
// its lock with theirs half done), and our own state directory.
func (d *Driver) needs(ctx context.Context) ([]need, error) {
	paths := []string{"/", "/usr", "/etc", "/etc/lvm", "/run", "/run/lvm", "/dev", d.state}
	for _, program := range []string{"lvcreate", "dmsetup"} {
		if path, err := exec.LookPath(program); err == nil {
			paths = append(paths, path)
		}
	}
	if self, err := os.Executable(); err == nil {
		paths = append(paths, self)
	}
	out, err := run.Output(ctx, "lvmconfig", "--typeconfig", "full", "backup/backup_dir", "backup/archive_dir", "global/locking_dir", "global/library_dir")
	if err != nil && len(out) == 0 {
		return nil, explain(err)
	}
	paths = append(paths, parseConfig(string(out))...)
	var found []need
	for _, path := range paths {
		for path != "/" { // what is not there yet would be made where it belongs
			if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
				break
			}
			path = filepath.Dir(path)
		}
		var st unix.Stat_t
		if err := unix.Stat(path, &st); err != nil {
			return nil, &os.PathError{Op: "stat", Path: path, Err: err}
		}
		found = append(found, need{path, st.Dev})
	}
	return found, nil
}

// parseConfig returns the absolute paths of lines such as
// backup_dir="/etc/lvm/backup".
func parseConfig(text string) []string {
	var paths []string
	for line := range strings.Lines(text) {
		_, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		if value = strings.Trim(value, `"`); filepath.IsAbs(value) {
			paths = append(paths, value)
		}
	}
	return paths
}
