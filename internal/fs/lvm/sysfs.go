package lvm

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"snapd/internal/fs"
	"snapd/internal/proc"
)

// dmUUID is what device-mapper calls a device, "" for one that is not its.
func dmUUID(dev proc.Device) (string, error) {
	text, err := os.ReadFile(dev.Sys("dm", "uuid"))
	if errors.Is(err, os.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("ask what device %s is: %w", dev, err)
	}
	return strings.TrimSpace(string(text)), nil
}

// slaves are the devices that one lies on, holders those that lie on it.
func slaves(dev proc.Device) ([]proc.Device, error)  { return related(dev, "slaves") }
func holders(dev proc.Device) ([]proc.Device, error) { return related(dev, "holders") }

func related(dev proc.Device, how string) ([]proc.Device, error) {
	entries, err := os.ReadDir(dev.Sys(how))
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list the %s of device %s: %w", how, dev, err)
	}
	var out []proc.Device
	for _, e := range entries {
		text, err := os.ReadFile(dev.Sys(how, e.Name(), "dev"))
		if err != nil {
			return nil, fmt.Errorf("list the %s of device %s: %w", how, dev, err)
		}
		var one proc.Device
		if _, err := fmt.Sscanf(string(text), "%d:%d", &one.Major, &one.Minor); err != nil {
			return nil, fmt.Errorf("list the %s of device %s: %w", how, dev, err)
		}
		out = append(out, one)
	}
	return out, nil
}

// mountOf finds the mount through which a path was looked at. In a namespace of
// our own the numbers differ from the host's, the paths do not.
func mountOf(hostPath string, st unix.Statx_t) (proc.Mount, error) {
	table, err := proc.Host()
	if err != nil {
		return proc.Mount{}, err
	}
	if st.Mask&unix.STATX_MNT_ID != 0 {
		if m, ok := table.ByID(st.Mnt_id); ok {
			return m, nil
		}
	}
	on := proc.Device{Major: st.Dev_major, Minor: st.Dev_minor}
	m, ok := table.Only(func(m proc.Mount) bool { return m.Device == on }).Above(hostPath)
	if !ok {
		return proc.Mount{}, fmt.Errorf("find its mount: %w", fs.ErrNotFound)
	}
	return m, nil
}
