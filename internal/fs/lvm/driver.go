// Package lvm drives LVM: it finds logical volumes, takes and deletes
// snapshots of thin and of classic ones, sends what changed between two as a
// stream of its own format, and receives such streams into new volumes. All of
// that goes through LVM's own commands; DESIGN.md beside this file says how.
//
// It is no general library for LVM: it makes no volume groups and no pools,
// and touches no volume that it did not make. Whether a filesystem is frozen
// is decided elsewhere; it says which there are.
package lvm

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"

	"snapd/internal/advice"
	"snapd/internal/fs"
	"snapd/internal/fs/lvm/lvmstream"
	"snapd/internal/run"
)

// Driver implements fs.Driver on LVM. It keeps nothing open between calls.
type Driver struct {
	state    string     // directory with locks, notes and digests
	commands sync.Mutex // LVM commands go one at a time
	activate sync.Mutex // see reading
	quiet    quietMemory
	probed   probeMemory
	relieved reliefMemory
	watched  watchMemory
}

// What this storage can do; all capabilities are in fs/optional.go.
var (
	_ fs.Driver           = (*Driver)(nil)
	_ fs.Sweeper          = (*Driver)(nil)
	_ fs.Tender           = (*Driver)(nil)
	_ fs.Unsuspender      = (*Driver)(nil)
	_ fs.FilesystemLister = (*Driver)(nil)
	_ fs.Checker          = (*Driver)(nil)
	_ fs.HealthTeller     = (*Driver)(nil)
	_ fs.OwnLister        = (*Driver)(nil)
	_ fs.Opener           = (*Driver)(nil)

	_ fs.Prepared = (*prepared)(nil)
	_ fs.Receiver = (*receiver)(nil)
	_ fs.Noter    = (*receiver)(nil)
	_ fs.Noter    = (*sending)(nil) // a stream
)

// New returns the driver. Below the directory state it keeps what LVM has no
// room for: reservations of pools' metadata snapshots, digests of the blocks of
// classic snapshots, write rates, and what has to be told. All of it can be
// lost; then streams of classic volumes start from nothing again.
func New(state string) *Driver { return &Driver{state: filepath.Join(state, "lvm")} }

// stateDir makes and returns a directory for state.
func (d *Driver) stateDir(parts ...string) (string, error) {
	dir := filepath.Join(append([]string{d.state}, parts...)...)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", fmt.Errorf("make a directory for what snapd remembers: %w", err)
	}
	return dir, nil
}

// Format implements fs.Driver.
func (d *Driver) Format(context.Context, fs.Snapshot) (format string, fixed bool, err error) {
	return lvmstream.Format, false, nil
}

// change runs an LVM command that changes something. Once begun it comes to
// its end, whatever becomes of us: it may just have suspended a volume.
func (d *Driver) change(ctx context.Context, argv ...string) error {
	d.commands.Lock()
	defer d.commands.Unlock()
	_, err := run.Program{Argv: argv, Whole: true}.Output(ctx)
	return explain(err)
}

// domain names one logical volume.
func domain(v volume) string { return fs.LVM + ":" + v.vgUUID + "/" + v.uuid }

func datasetOf(v volume) fs.Dataset {
	return fs.Dataset{Driver: fs.LVM, Name: v.full(), GUID: v.uuid, Domain: domain(v)}
}

// check looks at what LVM knows of a dataset. The name may be old: what counts
// is the UUID.
func (all volumes) dataset(dataset fs.Dataset) (volume, error) {
	if dataset.Driver != "" && dataset.Driver != fs.LVM {
		return volume{}, fmt.Errorf("%s: %w", dataset.Name, fs.ErrNotMine)
	}
	v, ok := all.byUUID(dataset.GUID)
	if !ok {
		return volume{}, advice.With(fmt.Errorf("logical volume %s (UUID %s): %w", dataset.Name, dataset.GUID, fs.ErrNotFound),
			"look what there is with lvs -a -o name,uuid; it does not show what is in groups that are exported (vgs), and vgimport brings those back")
	}
	return v, nil
}

// explain adds to an error of LVM the sentinel that callers test for and the
// advice for the user.
func explain(err error) error {
	if errors.Is(err, exec.ErrNotFound) || err == nil {
		return err
	}
	failed := (*run.Error)(nil)
	if !errors.As(err, &failed) {
		return err
	}
	has := func(words ...string) bool {
		for _, w := range words {
			if strings.Contains(failed.Stderr, w) {
				return true
			}
		}
		return false
	}
	switch {
	case has("insufficient free space", "nsufficient suitable", "No free extents", "not enough free space"):
		return advice.With(fmt.Errorf("%w: %w", fs.ErrNoSpace, err), "add a physical volume (vgextend) or remove volumes")
	case has("already exists in volume group", "already used in volume group"):
		return fmt.Errorf("%w: %w", fs.ErrExists, err)
	case has("in use", "is used by another device", "open count"):
		return fmt.Errorf("%w: %w", fs.ErrBusy, err)
	case has("Failed to find logical volume"):
		return fmt.Errorf("%w: %w", fs.ErrNotFound, err)
	case strayDevice.MatchString(failed.Stderr):
		m := strayDevice.FindStringSubmatch(failed.Stderr)
		return advice.With(fmt.Errorf("%w; LVM does not know that device: the power may have gone while the pool made it, or older metadata of the group was restored (vgcfgrestore)", err),
			"see first what it has: dmsetup create look --readonly --table '0 8 thin /dev/mapper/%[1]s %[2]s', dmsetup status look (the sectors that are written, and the last of them), dmsetup remove look. Where it has nothing, or nothing that is of use, LVM makes it anew after: dmsetup message %[1]s 0 'delete %[2]s'", m[1], m[2])
	case poolRefused.MatchString(failed.Stderr):
		return advice.With(fmt.Errorf("%w; that is common after a power cut", err), "repair it with: lvconvert --repair %s", poolRefused.FindStringSubmatch(failed.Stderr)[1])
	case has("Permission denied", "Operation not permitted") && os.Geteuid() != 0:
		return advice.With(err, "run this as root")
	}
	return err
}

// strayDevice is what LVM says of a thin device that it wanted to make and that is
// there: it writes down what it wants, has the pool make it and, with a write of
// its own, number the transaction; the power can go between the two. Until that
// device is gone LVM makes and removes no volume in the pool.
var strayDevice = regexp.MustCompile(`Thin pool (\S+) \S+ already contain thin device with device_id (\d+)`)

// poolRefused is what LVM says when thin_check found something, were it only
// blocks that the kernel was allocating when the power went.
var poolRefused = regexp.MustCompile(`Check of pool (\S+) failed`)

// explainIO does as explain for reading and writing a device.
func explainIO(err error) error {
	if errors.Is(err, syscall.ENOSPC) {
		return advice.With(fmt.Errorf("%w: %w: the pool is full", fs.ErrNoSpace, err), "extend the pool (lvextend)")
	}
	return err
}
