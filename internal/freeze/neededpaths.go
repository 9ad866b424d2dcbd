package freeze

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"snapd/internal/advice"
	"snapd/internal/proc"

	"golang.org/x/sys/unix"
)

// neededPaths are what snapd, the engine, the journal or LVM write to while a
// filesystem is frozen, or start programs from; with why.
func neededPaths(o Options) ([]neededPath, error) {
	paths := []neededPath{
		{"/", "it is the root"},
		{"/var/log", "the logs lie there"},
		{"/var/log/journal", "the journal lies there"},
		{"/run", "sockets and journals lie there"},
		{"/etc", "LVM keeps its backups there"},
		{"/dev", "devices are made there"},
		{"/usr", "programs lie there"},
		{"/var/lib/docker", "the Docker engine lives there"},
		{"/var/lib/containerd", "containerd lives there"},
		{o.Dir, "snapd's journals lie there"},
	}
	if exe, err := os.Executable(); err == nil {
		paths = append(paths, neededPath{exe, "snapd itself lies there"})
	}
	for _, p := range o.Needed {
		paths = append(paths, neededPath{p, "snapd, or a program that it runs, writes to " + p})
	}
	swaps, err := proc.Swaps()
	for _, s := range swaps {
		if s.File {
			paths = append(paths, neededPath{s.Path, "the kernel swaps to " + s.Path})
		}
	}
	return paths, err
}

type neededPath struct{ path, why string }

// Unfreezable says of each filesystem why it must not or cannot be frozen, nil
// where it can, so that a plan can do without it. It touches nothing; Prepare
// checks again and refuses.
func Unfreezable(filesystems []Filesystem, o Options) []error {
	out := make([]error, len(filesystems))
	var disks []*disk
	var index []int
	for i, f := range filesystems {
		d, err := openDisk(f)
		if err != nil {
			out[i] = err
			continue
		}
		defer d.close()
		disks, index = append(disks, d), append(index, i)
	}
	needed, err := neededPaths(o)
	for i, d := range disks {
		if out[index[i]] = err; err == nil {
			out[index[i]] = checkDisk(d, disks, needed)
		}
	}
	return out
}

// checkDisks refuses filesystems that must not be frozen, before anything is
// touched.
func checkDisks(disks []*disk, o Options) error {
	if len(disks) == 0 {
		return nil
	}
	needed, err := neededPaths(o)
	if err != nil {
		return err
	}
	for _, d := range disks {
		if err := checkDisk(d, disks, needed); err != nil {
			return err
		}
	}
	return nil
}

func checkDisk(d *disk, set []*disk, needed []neededPath) error {
	if d.Type != "ext4" && d.Type != "xfs" {
		return fmt.Errorf("freeze %s: it is %s, and snapd freezes only ext4 and xfs: %w", d, d.Type, ErrCannotFreeze)
	}
	for _, n := range needed {
		var st unix.Stat_t
		if err := unix.Stat(n.path, &st); err == nil && st.Dev == d.Device {
			return fmt.Errorf("freeze %s: %s: %w", d, n.why, ErrNeverFreeze)
		}
	}
	return checkStacked(d, set)
}

// checkStacked refuses a filesystem that another of the same set lies on by a
// loop device: what is written to the inner one, and the snapshot's own
// metadata, waits for the outer one.
func checkStacked(outer *disk, set []*disk) error {
	for _, inner := range set {
		files, err := backingFiles("/sys", inner.Device)
		if err != nil {
			return err
		}
		for _, file := range files {
			var st unix.Stat_t
			if err := unix.Stat(file, &st); err == nil && st.Dev == outer.Device { // else it is deleted, or of another mount namespace
				return advice.With(fmt.Errorf("freeze %s: %s lies on it, in the loop file %s: %w", outer, inner, file, ErrNeverFreeze), "make them two groups")
			}
		}
	}
	return nil
}

// backingFiles are the files behind the loop devices that a device lies on, at
// any depth.
func backingFiles(sys string, dev uint64) ([]string, error) {
	dir := filepath.Join(sys, "dev/block", proc.DeviceOf(dev).String())
	return backingBelow(dir, 0)
}

// deepest is how many devices one may lie on, one below the other.
const deepest = 16

func backingBelow(dir string, depth int) ([]string, error) {
	if depth > deepest {
		return nil, fmt.Errorf("%s: devices lie on each other more than %d deep", dir, deepest)
	}
	// dir is a symbolic link, so that the dots are the kernel's to follow: to
	// the device that a partition is of.
	for _, name := range []string{dir + "/loop/backing_file", dir + "/../loop/backing_file"} {
		file, err := os.ReadFile(name)
		if err == nil {
			return []string{strings.TrimSuffix(string(file), "\n")}, nil
		}
		if !errors.Is(err, os.ErrNotExist) && !errors.Is(err, unix.ENOTDIR) {
			return nil, err
		}
	}
	below, err := os.ReadDir(filepath.Join(dir, "slaves"))
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var out []string
	for _, b := range below {
		files, err := backingBelow(filepath.Join(dir, "slaves", b.Name()), depth+1)
		if err != nil {
			return nil, err
		}
		out = append(out, files...)
	}
	return out, nil
}
