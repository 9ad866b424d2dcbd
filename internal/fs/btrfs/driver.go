// Package btrfs drives Btrfs: it finds subvolumes, takes and deletes
// snapshots, and sends and receives them, by the kernel's ioctls. Only
// receiving runs a program, btrfs receive, since the kernel has no receiver.
//
// Our snapshots lie in fs.BtrfsDir at the filesystem's top, one folder for
// each subvolume id. The top is reached by a mount that belongs to no
// namespace, so no other process sees it and it ends with us.
//
// It is no general library for Btrfs: it makes no filesystems, balances
// nothing, and touches no subvolume that it did not make.
package btrfs

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"

	"snapd/internal/advice"
	"snapd/internal/fs"
	"snapd/internal/fs/btrfs/btrfsstream"
)

// Driver implements fs.Driver on Btrfs. It keeps nothing open between calls,
// so that filesystems can be unmounted while it lives.
type Driver struct {
	mu       sync.Mutex
	protocol uint32 // of the streams that this host sends, 0 until it is known
}

// What this storage can do; all capabilities are in fs/optional.go.
var (
	_ fs.Driver            = (*Driver)(nil)
	_ fs.Sweeper           = (*Driver)(nil)
	_ fs.OwnLister         = (*Driver)(nil)
	_ fs.InterruptedLister = (*Driver)(nil)
	_ fs.HealthTeller      = (*Driver)(nil)
	_ fs.TopOpener         = (*Driver)(nil)
	_ fs.Opener            = (*Driver)(nil)

	_ fs.Prepared = (*prepared)(nil)
	_ fs.Receiver = (*receiver)(nil)
)

// New returns the driver.
func New() *Driver { return &Driver{} }

// identity is what a dataset's Domain says: one subvolume of one filesystem.
type identity struct {
	fsid btrfsstream.UUID
	id   uint64 // of the subvolume
}

func (i identity) String() string { return fmt.Sprintf("%s:%s/%d", fs.Btrfs, i.fsid, i.id) }

// folder is the name of the directory below fs.BtrfsDir with our snapshots.
func (i identity) folder() string { return strconv.FormatUint(i.id, 10) }

func parseIdentity(domain string) (identity, error) {
	rest, ours := strings.CutPrefix(domain, fs.Btrfs+":")
	text, number, whole := strings.Cut(rest, "/")
	if !ours || !whole {
		return identity{}, fmt.Errorf("%q does not name a Btrfs subvolume", domain)
	}
	fsid, err := btrfsstream.ParseUUID(text)
	if err != nil {
		return identity{}, fmt.Errorf("%q does not name a Btrfs subvolume: %w", domain, err)
	}
	id, err := strconv.ParseUint(number, 10, 64)
	if err != nil {
		return identity{}, fmt.Errorf("%q does not name a Btrfs subvolume: %w", domain, err)
	}
	return identity{fsid: fsid, id: id}, nil
}

// explain adds to an error of the kernel the sentinel that callers test for
// and the advice for the user.
func explain(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, syscall.ENOSPC):
		return advice.With(fmt.Errorf("%w: %w", fs.ErrNoSpace, err), "free some space or add a device (btrfs filesystem usage shows where it went)")
	case errors.Is(err, syscall.EDQUOT):
		return advice.With(fmt.Errorf("%w: %w", fs.ErrNoSpace, err), "raise the quota (btrfs qgroup show -re tells which)")
	case errors.Is(err, syscall.EIO):
		return advice.With(err, "see what cannot be read in the kernel's log (journalctl -k | grep -i btrfs), and whether more is damaged with: btrfs scrub start -B")
	case errors.Is(err, syscall.EROFS):
		return advice.With(err, "remount the filesystem for writing, and look in the kernel's log for why it is read-only")
	case errors.Is(err, syscall.EPERM), errors.Is(err, syscall.EACCES):
		if os.Geteuid() != 0 {
			return advice.With(err, "run this as root")
		}
	}
	return err
}
