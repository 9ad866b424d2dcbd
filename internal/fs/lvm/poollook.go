package lvm

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"

	"snapd/internal/advice"

	"golang.org/x/sys/unix"
)

// errUnknownDevice is what a pool has that LVM does not know.
var errUnknownDevice = errors.New("the pool has a device that LVM does not know")

// nextFree refuses to have LVM make n thin volumes in a pool that has a device
// already under one of the ids that they will get, and returns all that the pool
// has. LVM's own answers do not do: see newness.go, and TestUnknownDevice, where
// lvcreate -s has the pool delete such a device.
func (d *Driver) nextFree(ctx context.Context, all volumes, pool volume, n int) (map[uint64]thinDevice, error) {
	there, err := d.devices(ctx, pool)
	if err != nil {
		return nil, fmt.Errorf("look which devices thin pool %s has: %w", pool.full(), err)
	}
	next := all.nextID(pool)
	for id := next; id < next+uint64(n); id++ {
		if found, taken := there[id]; taken {
			return nil, unknownError(pool, id, found)
		}
	}
	return there, nil
}

// nextID is the id that LVM gives next: one more than the highest that it knows.
func (all volumes) nextID(pool volume) uint64 {
	var last uint64
	for _, v := range all {
		if v.thin() && v.poolUUID == pool.uuid {
			last = max(last, v.thinID)
		}
	}
	return last + 1
}

func unknownError(pool volume, id uint64, found thinDevice) error {
	const enough = 1 << 31 // sectors
	return advice.With(fmt.Errorf("%w: thin pool %s has one with the id %d, with %d KiB of data, and LVM would take it for the volume that it makes next; so nothing is made in the pool. The power may have gone while that device was made, or older metadata of the group was restored (vgcfgrestore)",
		errUnknownDevice, pool.full(), id, int64(found.mapped)*pool.chunk>>10),
		"look what it is: dmsetup create look --readonly --table '0 %d thin /dev/mapper/%s %d'; blkid -p /dev/mapper/look; dmsetup remove look. Where it is of no use, remove it: dmsetup message %[2]s 0 'delete %[3]d'",
		int64(enough), poolDevice(pool), id)
}

// devices reads which devices a pool has. A pool that is not active is, for so long.
func (d *Driver) devices(ctx context.Context, pool volume) (_ map[uint64]thinDevice, err error) {
	node := "/dev/mapper/" + dmName(pool.vg, pool.name+"_tmeta", "")
	f, err := os.OpenFile(node, os.O_RDONLY|unix.O_DIRECT|unix.O_CLOEXEC, 0)
	if errors.Is(err, os.ErrNotExist) {
		if err := d.change(ctx, "lvchange", "-q", "-a", "y", pool.full()); err != nil {
			return nil, err
		}
		defer func() {
			err = errors.Join(err, d.change(context.WithoutCancel(ctx), "lvchange", "-q", "-a", "n", pool.full()))
		}()
		f, err = os.OpenFile(node, os.O_RDONLY|unix.O_DIRECT|unix.O_CLOEXEC, 0)
	}
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }() // only read
	buf, err := pages(metaBlock)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, giveBack(buf)) }()
	return readThinDevices(f, buf)
}

// lookBefore does nextFree for every pool in which a snapshot is about to be taken.
func (p *prepared) lookBefore(ctx context.Context, all volumes) error {
	pools, counts := map[string]volume{}, map[string]int{}
	for _, one := range p.each {
		if !one.origin.thin() {
			continue
		}
		pool, err := all.pool(one.origin)
		if err != nil {
			return err
		}
		pools[pool.uuid] = pool
		counts[pool.uuid]++
	}
	p.before = map[string]map[uint64]thinDevice{}
	for _, uuid := range slices.Sorted(maps.Keys(pools)) {
		there, err := p.driver.nextFree(ctx, all, pools[uuid], counts[uuid])
		if err != nil {
			return err
		}
		p.before[uuid] = there
	}
	return nil
}

// isNew tells a snapshot that was taken from a device that the pool had before:
// whatever LVM took that for, it is not of this instant. It loses our tags, so that
// nothing of ours removes it or calls it a snapshot.
func (p *prepared) isNew(ctx context.Context, v volume) error {
	found, was := p.before[v.poolUUID][v.thinID]
	if !v.thin() || !was {
		return nil
	}
	ctx = context.WithoutCancel(ctx)
	argv := []string{"lvchange", "-q"}
	for _, tag := range v.tags {
		argv = append(argv, "--deltag", tag)
	}
	err := p.driver.change(ctx, append(argv, v.full())...)
	return errors.Join(advice.With(fmt.Errorf("%w: LVM took the one with the id %d for the new snapshot %s, which has %d blocks of other data; it is kept, and is no snapshot", errUnknownDevice, v.thinID, v.full(), found.mapped),
		"look what it is, and remove it where it is of no use: lvremove %s", v.full()), err)
}
