package lvm

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"snapd/internal/fs"
	"snapd/internal/proc"
	"snapd/internal/run"

	"golang.org/x/sys/unix"
)

// CheckFilesystem has the filesystem on a restored volume checked by its own
// tool (e2fsck, xfs_repair) and returns what that said; fs.ErrDamaged when it
// finds damage, fs.ErrNotMine where there is neither ext4 nor XFS. The tool
// works on a copy-on-write copy that is removed afterwards, in which the journal
// can be replayed as the first mount would: the volume itself is not touched.
func (d *Driver) CheckFilesystem(ctx context.Context, dataset fs.Dataset) (string, error) {
	said, err := d.checkFilesystem(ctx, dataset)
	if err != nil {
		return said, fmt.Errorf("check the filesystem on %s: %w", dataset.Name, err)
	}
	return said, nil
}

func (d *Driver) checkFilesystem(ctx context.Context, dataset fs.Dataset) (said string, err error) {
	all, err := d.list(ctx)
	if err != nil {
		return "", err
	}
	v, err := all.dataset(dataset)
	if err != nil {
		return "", err
	}
	if err := d.roomForOne(ctx, all, v); err != nil {
		return "", err
	}
	name := workName()
	argv := []string{"lvcreate", "-q", "-y", "-s", "-n", name, "--addtag", tagTemporary, "--addtag", tagOwner + proc.Mark()}
	if v.thin() {
		argv = append(argv, "-k", "y", "-a", "y", "-K")
	} else {
		const replay = 512 << 20 // bytes; more than a journal and what it brings up to date
		argv = append(argv, "-L", strconv.FormatInt(min(replay, wholeSize(v)), 10)+"b")
		// A snapshot of an inactive origin is active with it only.
		held, err := d.open(ctx, v, os.O_RDONLY)
		if err != nil {
			return "", err
		}
		if !v.active() {
			defer func() { err = errors.Join(err, held.Close()) }()
		} else if err := held.shut(); err != nil {
			return "", err
		}
	}
	if err := d.beQuiet(ctx); err != nil {
		return "", err
	}
	if err := d.change(ctx, append(argv, v.full())...); err != nil {
		return "", err
	}
	copied := volume{vg: v.vg, name: name}
	defer func() { err = errors.Join(err, d.remove(context.WithoutCancel(ctx), copied)) }()
	return runCheck(ctx, "/dev/mapper/"+dmName(v.vg, name, ""))
}

func runCheck(ctx context.Context, node string) (string, error) {
	kind, err := run.Output(ctx, "blkid", "-p", "-o", "value", "-s", "TYPE", node)
	if err != nil {
		return "", fmt.Errorf("%w: there is nothing known on it: %w", fs.ErrNotMine, err)
	}
	switch strings.TrimSpace(string(kind)) {
	case "ext4", "ext3", "ext2":
		// The first run replays the journal and repairs what that leaves
		// undone; status 1 says it did. The second must find nothing.
		out, err := run.Output(ctx, "e2fsck", "-p", node)
		if failed := (*run.Error)(nil); err != nil && (!errors.As(err, &failed) || failed.Code != 1) {
			return string(out), verdict(err, string(out), e2fsckFound)
		}
		more, err := run.Output(ctx, "e2fsck", "-f", "-n", node)
		return string(out) + string(more), verdict(err, string(more), e2fsckFound)
	case "xfs":
		err := replayXFS(node)
		if errors.Is(err, unix.EUCLEAN) || errors.Is(err, unix.EINVAL) { // what XFS says of metadata that makes no sense
			err = fmt.Errorf("%w: its log cannot be replayed: %w", fs.ErrDamaged, err)
		}
		if err != nil {
			return "", err
		}
		out, err := run.Output(ctx, "xfs_repair", "-n", node)
		return string(out), verdict(err, string(out), func(status int) bool { return status == 1 })
	}
	return "", fmt.Errorf("%w: on it is %s", fs.ErrNotMine, strings.TrimSpace(string(kind)))
}

// e2fsckFound tells of e2fsck's exit status whether it says of damage. Its bits:
// 4 is what was found and not repaired, 8 that the tool itself could not go on, as
// when the copy has no room left; then nothing is known (e2fsck(8)).
func e2fsckFound(status int) bool { return status&4 != 0 && status&8 == 0 }

// verdict tells a tool that found damage from one that could not look.
func verdict(err error, said string, found func(status int) bool) error {
	failed, ended := errors.AsType[*run.Error](err)
	if !ended || failed.Code <= 0 || !found(failed.Code) {
		return err
	}
	return fmt.Errorf("%w: %w: %s", fs.ErrDamaged, err, lastLines(said))
}

// lastLines is the end of what a tool said: there it says what it found.
func lastLines(said string) string {
	lines := strings.Split(strings.TrimSpace(said), "\n")
	return strings.Join(lines[max(0, len(lines)-5):], "; ")
}

// replayXFS mounts where no other program sees it: XFS replays its log in no
// other way.
func replayXFS(node string) error {
	root, err := mountNowhere("xfs", node, "nouuid")
	if err != nil {
		return err
	}
	return root.Close()
}

// roomForOne tells whether the pool of a thin volume has no device of which LVM does
// not know where its next one goes. A classic volume has no pool.
func (d *Driver) roomForOne(ctx context.Context, all volumes, v volume) error {
	if !v.thin() {
		return nil
	}
	pool, err := all.pool(v)
	if err != nil {
		return err
	}
	_, err = d.nextFree(ctx, all, pool, 1)
	return err
}
