package lvm

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"

	"snapd/internal/fs"
)

// dmUUID is what device-mapper calls a device, "" for one that is not its.
func dmUUID(dev device) (string, error) {
	text, err := os.ReadFile(dev.sys("dm", "uuid"))
	if errors.Is(err, os.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("ask what device %s is: %w", dev, err)
	}
	return strings.TrimSpace(string(text)), nil
}

// slaves are the devices that one lies on, holders those that lie on it.
func slaves(dev device) ([]device, error)  { return related(dev, "slaves") }
func holders(dev device) ([]device, error) { return related(dev, "holders") }

func related(dev device, how string) ([]device, error) {
	entries, err := os.ReadDir(dev.sys(how))
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list the %s of device %s: %w", how, dev, err)
	}
	var out []device
	for _, e := range entries {
		text, err := os.ReadFile(dev.sys(how, e.Name(), "dev"))
		if err != nil {
			return nil, fmt.Errorf("list the %s of device %s: %w", how, dev, err)
		}
		var one device
		if _, err := fmt.Sscanf(string(text), "%d:%d", &one.major, &one.minor); err != nil {
			return nil, fmt.Errorf("list the %s of device %s: %w", how, dev, err)
		}
		out = append(out, one)
	}
	return out, nil
}

// node is the number of the block device at a path.
func node(path string) (device, error) {
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return device{}, &os.PathError{Op: "stat", Path: path, Err: err}
	}
	if st.Mode&unix.S_IFMT != unix.S_IFBLK {
		return device{}, fmt.Errorf("%s is no block device", path)
	}
	return device{unix.Major(st.Rdev), unix.Minor(st.Rdev)}, nil
}

// swaps are the block devices that are swap space.
func swaps() ([]device, error) {
	f, err := os.Open("/proc/swaps")
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list swap space: %w", err)
	}
	defer func() { _ = f.Close() }()
	var out []device
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		words := strings.Fields(lines.Text())
		if len(words) < 2 || words[1] != "partition" {
			continue
		}
		if dev, err := node(words[0]); err == nil {
			out = append(out, dev)
		}
	}
	return out, lines.Err()
}

// mount is one mount of the host.
type mount struct {
	id       int
	point    string
	root     string // path in its filesystem of what is mounted there
	kind     string // of the filesystem
	source   string
	dev      device
	readOnly bool
}

// hostMounts reads the mounts that the host has. Its first process sees the
// host's table even where we run in a namespace of our own.
func hostMounts() ([]mount, error) {
	f, err := os.Open("/proc/1/mountinfo")
	if errors.Is(err, os.ErrPermission) || errors.Is(err, os.ErrNotExist) {
		f, err = os.Open("/proc/self/mountinfo")
	}
	if err != nil {
		return nil, fmt.Errorf("read the host's mounts: %w", err)
	}
	defer func() { _ = f.Close() }()
	all, err := mountinfo.GetMountsFromReader(f, nil)
	if err != nil {
		return nil, fmt.Errorf("read the host's mounts: %w", err)
	}
	table := make([]mount, len(all))
	for i, m := range all {
		table[i] = mount{
			id: m.ID, point: m.Mountpoint, root: m.Root, kind: m.FSType, source: m.Source,
			dev:      device{uint32(m.Major), uint32(m.Minor)},
			readOnly: slices.Contains(strings.Split(m.VFSOptions, ","), "ro"),
		}
	}
	return table, nil
}

// mountOf finds the mount through which a path was looked at.
func mountOf(hostPath string, st unix.Statx_t) (mount, error) {
	table, err := hostMounts()
	if err != nil {
		return mount{}, err
	}
	for _, m := range table {
		if st.Mask&unix.STATX_MNT_ID != 0 && uint64(m.id) == st.Mnt_id {
			return m, nil
		}
	}
	// In a namespace of our own the numbers differ from the host's, the
	// paths do not.
	best := -1
	for i, m := range table {
		if _, below := cutDir(hostPath, m.point); below && m.dev == (device{st.Dev_major, st.Dev_minor}) &&
			(best < 0 || len(m.point) >= len(table[best].point)) {
			best = i
		}
	}
	if best < 0 {
		return mount{}, fmt.Errorf("find its mount: %w", fs.ErrNotFound)
	}
	return table[best], nil
}

// cutDir returns what of p lies below dir ("" for dir itself).
func cutDir(p, dir string) (rest string, below bool) {
	if p == dir {
		return "", true
	}
	if dir != "/" {
		dir += "/"
	}
	return strings.CutPrefix(p, dir)
}
