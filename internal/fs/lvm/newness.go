package lvm

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"snapd/internal/advice"
	"snapd/internal/fs"
	"snapd/internal/fs/lvm/lvmstream"
	"snapd/internal/proc"
	"snapd/internal/run"
)

// A pool may hold a device of which LVM does not know, as after a power cut, or
// after older metadata of the group was restored. LVM gives a new volume the id
// after the highest that it knows. Where the pool answers to create_thin that
// there is one, LVM takes that for success (it may have sent the message before),
// and the new volume has the blocks of the old device. lvremove would then remove
// these. nextFree keeps LVM from it. What comes between that look and lvcreate is
// found afterwards: a new volume is tagged as unproven until its first look shows
// that the pool has no block for it, and only then as one that may go.

// foundPrefix starts the name under which LVM keeps a device that it found so. It
// has our prefix, so that udev does not prefer its filesystem (see beQuiet).
const foundPrefix = fs.SnapshotPrefix + "found_"

// holding is what a thin device has in its pool.
type holding struct {
	bytes int64 // that are mapped
	end   int64 // byte after the last of them
}

// mapped asks device-mapper what an active thin volume has.
func mapped(ctx context.Context, v volume) (holding, error) {
	out, err := run.Output(ctx, "dmsetup", "status", dmName(v.vg, v.name, ""))
	if err != nil {
		return holding{}, fmt.Errorf("ask what %s has in its pool: %w", v.full(), err)
	}
	m, err := parseHolding(string(out))
	if err != nil {
		return m, fmt.Errorf("ask what %s has in its pool: %w", v.full(), err)
	}
	return m, nil
}

// parseHolding reads a line such as
//
//	0 131072 thin 40960 40959
//
// with the sectors that are mapped and the last of them, "-" for none.
func parseHolding(line string) (holding, error) {
	words := strings.Fields(line)
	if len(words) != 5 || words[2] != "thin" {
		return holding{}, fmt.Errorf("device-mapper says %q, and that is no thin volume that works", strings.TrimSpace(line))
	}
	sectors, err := strconv.ParseInt(words[3], 10, 64)
	last := int64(-1)
	if err == nil && words[4] != "-" {
		last, err = strconv.ParseInt(words[4], 10, 64)
	}
	if err != nil || sectors > 0 && last < 0 {
		return holding{}, errors.Join(fmt.Errorf("device-mapper says %q", strings.TrimSpace(line)), err)
	}
	return holding{bytes: sectors * lvmstream.Sector, end: (last + 1) * lvmstream.Sector}, nil
}

// prove looks whether a thin volume that lvcreate has just made, and that is
// active, is new: then it is tagged as one that goes with its process. Otherwise
// it is kept, with all that it has, and the error says where. A volume of which
// nothing could be found out stays unproven, for Sweep.
func (d *Driver) prove(ctx context.Context, v volume) error {
	m, err := mapped(ctx, v)
	if err != nil {
		return err
	}
	if m.bytes > 0 {
		return d.keepFound(ctx, v, m)
	}
	return d.change(ctx, "lvchange", "-q", "--addtag", tagTemporary, "--deltag", tagUnproven, v.full())
}

// keepFound takes our tags off a volume that has the blocks of another device, so
// that nothing of ours ever removes it, and gives it a name that says so.
func (d *Driver) keepFound(ctx context.Context, v volume, m holding) error {
	ctx = context.WithoutCancel(ctx) // few and short steps, which belong together
	found, id := v, "unknown"
	err := d.change(ctx, "lvchange", "-q", "--deltag", tagUnproven, "--deltag", ownerTag(v), v.full())
	all, listErr := d.list(ctx, v.vg)
	if known, there := all.named(v.vg, v.name); there {
		found, id = known, strconv.FormatUint(known.thinID, 10)
	}
	var random [4]byte
	_, _ = rand.Read(random[:]) // never fails
	name := foundPrefix + id + "_" + hex.EncodeToString(random[:])
	if err == nil && listErr == nil {
		if err = d.change(ctx, "lvrename", "-q", v.vg, v.name, name); err == nil {
			found.name = name
		}
	}
	off := d.change(ctx, "lvchange", "-q", "-a", "n", found.full())
	return errors.Join(foundError(found, id, m), err, listErr, off)
}

// ownerTag is the tag that says which process made a volume.
func ownerTag(v volume) string {
	if by, owned := v.tag(tagOwner); owned {
		return tagOwner + by
	}
	return tagOwner + proc.Mark()
}

// foundError says what was found, and what to do about it.
func foundError(v volume, id string, m holding) error {
	whole := ""
	if m.end > v.size && v.size > 0 {
		whole = fmt.Sprintf("lvextend -L %db %s; ", m.end, v.full())
	}
	return advice.With(fmt.Errorf("%w: thin pool %s/%s has a device with the id %s of which LVM did not know, and LVM took it for the new volume: it has %d KiB of other data; it is kept as %s, and nothing was written to it or removed",
		errNotNew, v.vg, v.pool, id, m.bytes>>10, v.full()),
		"look what it is: %slvchange -a y -K %s; blkid -p /dev/%[2]s; lvchange -a n %[2]s. Where it is of no use: lvremove %[2]s, which removes device %s from the pool. The same command again takes another id, also when it stays",
		whole, v.full(), id)
}

// errNotNew is what a new volume is that has data.
var errNotNew = errors.New("the new volume is not empty")

// sweepUnproven removes a volume that was made for a restore whose process ended
// before it looked whether it is new, if it is.
func (d *Driver) sweepUnproven(ctx context.Context, v volume) error {
	if err := d.beQuiet(ctx); err != nil {
		return err
	}
	if !v.active() {
		if err := d.change(ctx, "lvchange", "-q", "-a", "y", "-K", v.full()); err != nil {
			return fmt.Errorf("activate %s: %w", v.full(), err)
		}
	}
	m, err := mapped(ctx, v)
	if err != nil {
		return err
	}
	if m.bytes > 0 {
		return d.keepFound(ctx, v, m)
	}
	return d.remove(ctx, v)
}

// unproven tells whether it is not known yet that what a volume has is ours.
func (v volume) unproven() bool { return slices.Contains(v.tags, tagUnproven) }
