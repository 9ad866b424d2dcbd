package fs

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"
	"time"
)

// Names of the drivers, as they stand in restore points and in targets.
const (
	Btrfs = "btrfs"
	ZFS   = "zfs"
	LVM   = "lvm"
)

// All names that we give to things on a user's storage stand in this file.
const (
	// SnapshotPrefix starts the name of every snapshot of ours.
	SnapshotPrefix = "snapd_"
	// BtrfsDir lies at the top of a Btrfs filesystem (mode 0700) and has
	// one folder per subvolume id with our snapshots of it, and restores
	// that are not finished yet.
	BtrfsDir = ".snapd-agent"
	// LVMRestorePrefix starts the name of a logical volume that is being
	// restored or checked, and of no snapshot.
	LVMRestorePrefix = SnapshotPrefix + "restore_"

	nameTime = "20060102T150405Z"
)

// SnapshotName is the name of all snapshots of one restore point, such as
// snapd_20261121T101112Z_01jd8k2m5x7qf3za.
func SnapshotName(at time.Time, pointID string) string {
	return SnapshotPrefix + at.UTC().Format(nameTime) + "_" + pointID
}

// ParseSnapshotName returns time and point id of a name that SnapshotName made.
func ParseSnapshotName(name string) (at time.Time, pointID string, err error) {
	rest, ours := strings.CutPrefix(name, SnapshotPrefix)
	stamp, id, whole := strings.Cut(rest, "_")
	if !ours || !whole || id == "" || strings.ContainsAny(id, "_/@ ") {
		return time.Time{}, "", fmt.Errorf("%q is not the name of a snapd snapshot", name)
	}
	at, err = time.Parse(nameTime, stamp)
	if err != nil {
		return time.Time{}, "", fmt.Errorf("%q is not the name of a snapd snapshot: %w", name, err)
	}
	return at, id, nil
}

// Names on ZFS. Bookmarks are called as the snapshots they stand for.
const (
	holdPrefix  = "snapd_ship_"    // tags of holds on what is being shipped
	stagePrefix = "snapd_restore_" // datasets in which restores are built

	// PropertyOwner says on such a dataset which process builds it.
	PropertyOwner = "snapd:owner"
	// PropertyTarget says what it shall become, so that a restore that was
	// interrupted can be gone on with.
	PropertyTarget = "snapd:target"
	// PropertyPrefix begins our own properties, which are not a user's.
	PropertyPrefix = "snapd:"
)

// HoldName is the tag of the holds on what is shipped for a purpose, such as a
// repository's id.
func HoldName(purpose string) string { return holdPrefix + purpose }

// ParseHoldName returns the purpose of a tag that HoldName made.
func ParseHoldName(tag string) (purpose string, ours bool) {
	purpose, ours = strings.CutPrefix(tag, holdPrefix)
	if !ours || purpose == "" || strings.ContainsAny(purpose, "/.\x00 ") {
		return "", false
	}
	return purpose, true
}

// StageName is the name of a dataset in which a restore is built; random tells
// several apart.
func StageName(random string) string { return stagePrefix + random }

// IsStageName tells whether StageName made a name, of 16 hexadecimal digits.
func IsStageName(name string) bool {
	random, ours := strings.CutPrefix(name, stagePrefix)
	return ours && len(random) == 16 && strings.Trim(random, "0123456789abcdef") == ""
}

// LVMSnapshotName is the name of the logical volume that is snapshot name of
// the volume with the UUID origin. Volumes of one group share their names'
// space, so it carries a short hash of that UUID.
func LVMSnapshotName(name, origin string) string {
	sum := sha256.Sum256([]byte(origin))
	return name + "_" + hex.EncodeToString(sum[:4])
}

// ParseLVMSnapshotName returns the snapshot's name of a volume's that
// LVMSnapshotName made.
func ParseLVMSnapshotName(volume, origin string) (name string, err error) {
	name, _, _ = cutLast(volume, "_")
	if _, _, err := ParseSnapshotName(name); err != nil || LVMSnapshotName(name, origin) != volume {
		return "", fmt.Errorf("%q is not the name of a snapd snapshot of the volume %s", volume, origin)
	}
	return name, nil
}

func cutLast(s, sep string) (before, after string, found bool) {
	if i := strings.LastIndex(s, sep); i >= 0 {
		return s[:i], s[i+len(sep):], true
	}
	return s, "", false
}
