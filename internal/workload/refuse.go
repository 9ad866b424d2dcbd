package workload

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"snapd/internal/advice"
)

// pathOfGroup begins what is said of a path of the configuration, which no
// volumes can leave out.
const pathOfGroup = "path "

// ErrNoStorage is wrapped when something of a group lies where no snapshot
// can be taken.
var ErrNoStorage = errors.New("cannot be snapshotted")

func (r *resolver) refuse(who, fstype string) error {
	return advice.With(fmt.Errorf("%s %w: it lies on %s", who, ErrNoStorage, kindOf(fstype)), "move it to Btrfs, ZFS or LVM, or %s", r.leaveOut(who))
}

// leaveOut says how to go on without the thing that was refused.
func (r *resolver) leaveOut(who string) string {
	if strings.HasPrefix(who, pathOfGroup) {
		return fmt.Sprintf("take it out of paths in [group.%s]", r.group.Name)
	}
	return fmt.Sprintf("leave it out: list what belongs to the group in the label snapd.volumes of the container, or in volumes of [group.%s]", r.group.Name)
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

func network(fstype string) bool {
	return slices.Contains([]string{"nfs", "nfs4", "cifs", "smb3", "smbfs", "ceph", "glusterfs", "fuse.glusterfs", "fuse.sshfs", "9p", "virtiofs", "afs"}, fstype)
}

// kernelMade tells whether the kernel makes up what is in the filesystem.
func kernelMade(fstype string) bool {
	return slices.Contains([]string{
		"proc", "sysfs", "devtmpfs", "devpts", "cgroup", "cgroup2", "mqueue", "hugetlbfs", "debugfs",
		"tracefs", "securityfs", "bpf", "pstore", "configfs", "fusectl", "efivarfs", "binfmt_misc", "nsfs", "autofs",
	}, fstype)
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
