package workload

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"snapd/internal/advice"
	"snapd/internal/proc"
)

// ErrNoStorage is wrapped when something of a group lies where no snapshot
// can be taken.
var ErrNoStorage = errors.New("cannot be snapshotted")

func (r *resolver) refuse(who item, fstype string) error {
	if who.exclude != "" && (fstype == "tmpfs" || fstype == "ramfs") {
		r.note("%s is memory and not kept", who)
		return nil
	}
	if noData(who.source) {
		r.note("%s belongs to this host and is left out", who)
		return nil
	}
	return advice.With(fmt.Errorf("%s %w: it lies on %s", who, ErrNoStorage, kindOf(fstype)), "move it to Btrfs, ZFS or LVM, or %s", r.leaveOut(who))
}

// leaveOut says how to go on without the thing that was refused.
func (r *resolver) leaveOut(who item) string {
	if who.exclude == "" {
		return fmt.Sprintf("take it out of paths in [group.%s]", r.group.Name)
	}
	return fmt.Sprintf("leave it out: write %q into the label snapd.exclude of the container, or into exclude of [group.%s]", who.exclude, r.group.Name)
}

// noData tells whether a path lies where the system keeps what lives as long as
// it runs: what is there is data only on a storage that takes snapshots.
func noData(source string) bool {
	return slices.ContainsFunc([]string{"/run", "/var/run", "/dev", "/sys", "/proc"}, func(dir string) bool {
		_, below := proc.CutDir(source, dir)
		return source != "" && below
	})
}

// ofTheHost tells whether a path is one of the files that say to a container on
// which host it runs.
func ofTheHost(source string) bool {
	return slices.Contains([]string{
		"/etc/localtime", "/etc/timezone", "/etc/machine-id", "/etc/hostname", "/etc/hosts", "/etc/resolv.conf", "/etc/passwd", "/etc/group",
	}, source)
}

// kindOf describes a filesystem to a user who hoped to snapshot it.
func kindOf(fstype string) string {
	if why := reason(fstype); why != "" {
		return fstype + ", " + why
	}
	return fstype + ", and snapd snapshots Btrfs, ZFS and LVM only"
}

// reason says why a filesystem of this type can never be snapshotted here, ""
// when it depends on what it lies on.
func reason(fstype string) string {
	switch {
	case network(fstype):
		return "which lives on another host"
	case fstype == "tmpfs" || fstype == "ramfs":
		return "which is memory and is not kept"
	case fstype == "overlay" || fstype == "aufs":
		return "which is made of layers of other filesystems"
	case strings.HasPrefix(fstype, "fuse"):
		return "which a program makes up"
	}
	return ""
}

func network(fstype string) bool { return proc.OtherHost(fstype) }

// kernelMade tells whether the kernel makes up what is in the filesystem.
func kernelMade(fstype string) bool {
	return slices.Contains([]string{
		"proc", "sysfs", "devtmpfs", "devpts", "cgroup", "cgroup2", "mqueue", "hugetlbfs", "debugfs",
		"tracefs", "securityfs", "bpf", "pstore", "configfs", "fusectl", "efivarfs", "binfmt_misc", "nsfs", "autofs",
	}, fstype)
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
