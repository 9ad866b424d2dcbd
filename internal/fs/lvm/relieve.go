package lvm

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"time"

	"snapd/internal/advice"
	"snapd/internal/fs"
)

const (
	worthLimit = 20 * time.Second // to find out what dropping would free
	fruitless  = 2                // drops in a row that freed nothing, after which the rest stays
	reliefKept = 5 * time.Second  // for so long relieve is not repeated, and its result is given again
)

// reliefMemory keeps what came of relieving a pool that is full all the same: a
// watch of a stream asks several times a second.
type reliefMemory struct {
	sync.Mutex
	last map[string]relief // by the pool's UUID
}

// relief is what came of relieving a pool.
type relief struct {
	until   time.Time
	reading map[string]bool // snapshots that had to stay because a stream reads from them, by UUID
}

// relieveAll returns the snapshots that would have made room if no stream read
// from them.
func (d *Driver) relieveAll(ctx context.Context, all volumes) (reading map[string]bool, failed error) {
	reading = map[string]bool{}
	for _, v := range all {
		if !v.isPool() || !v.suffers() || len(all.oursIn(v, nil)) == 0 {
			continue
		}
		read, err := d.relieve(ctx, v.uuid)
		failed = errors.Join(failed, err)
		for uuid := range read {
			reading[uuid] = true
		}
	}
	return reading, failed
}

// relieve drops our oldest snapshots from a pool until it does not suffer any
// more, as far as that gives it room. One caller at a time does so: two would
// drop two snapshots where one is enough.
func (d *Driver) relieve(ctx context.Context, poolUUID string) (reading map[string]bool, err error) {
	d.relieved.Lock()
	defer d.relieved.Unlock()
	if last, ok := d.relieved.last[poolUUID]; ok && time.Now().Before(last.until) {
		return last.reading, nil
	}
	lock, err := d.awaitLock(ctx, "relief", poolUUID)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, lock.Close()) }()
	reading, err = d.drop(ctx, poolUUID)
	if err == nil {
		if d.relieved.last == nil {
			d.relieved.last = map[string]relief{}
		}
		d.relieved.last[poolUUID] = relief{time.Now().Add(reliefKept), reading}
	}
	return reading, err
}

// relieveNow does so although it was just done: something has changed.
func (d *Driver) relieveNow(ctx context.Context, poolUUID string) error {
	d.relieved.Lock()
	delete(d.relieved.last, poolUUID)
	d.relieved.Unlock()
	_, err := d.relieve(ctx, poolUUID)
	return err
}

func (d *Driver) drop(ctx context.Context, poolUUID string) (reading map[string]bool, err error) {
	reading = map[string]bool{}
	for vain := 0; ; {
		all, err := d.list(ctx)
		if err != nil {
			return reading, err
		}
		pool, ok := all.byUUID(poolUUID)
		if !ok || !pool.suffers() {
			return reading, nil
		}
		ours := all.oursIn(pool, reading)
		worth, err := d.worthDropping(ctx, all, pool, ours)
		if err != nil {
			return reading, err
		}
		if vain == fruitless {
			worth = nil
		}
		if len(worth) == 0 {
			return reading, d.sayStays(pool, len(ours), len(reading))
		}
		dropped, freed, err := d.dropThese(ctx, pool, worth, reading)
		if err != nil {
			return reading, err
		}
		switch {
		case dropped == 0:
		case freed:
			vain = 0
		default:
			vain++
		}
	}
}

// dropThese removes snapshots, notes those that a stream reads from, and tells
// whether that gave the pool room.
func (d *Driver) dropThese(ctx context.Context, pool volume, these volumes, reading map[string]bool) (dropped int, freed bool, err error) {
	before, err := poolStatusOf(ctx, pool)
	if err != nil {
		return 0, false, err
	}
	for _, v := range these {
		err := d.dropOne(ctx, v, pool)
		switch {
		case errors.Is(err, fs.ErrBusy):
			reading[v.uuid] = true
		case err != nil:
			return dropped, false, err
		default:
			dropped++
		}
	}
	after, err := poolStatusOf(ctx, pool)
	return dropped, pool.freed(before, after), err
}

// dropOne removes a snapshot and says so. One that is gone is no error.
func (d *Driver) dropOne(ctx context.Context, v, pool volume) error {
	err := d.remove(ctx, v)
	if errors.Is(err, fs.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	return d.notice("DROPPED the snapshot %s: %s, and writers there were about to fail; %s", v.full(), pool.use(), pool.widen())
}

// sayStays says, once, why a pool that suffers keeps snapshots of ours.
func (d *Driver) sayStays(pool volume, idle, reading int) error {
	switch {
	case idle > 0:
		return d.noticeOnce(stays+pool.uuid, "%s; snapd keeps its snapshots there (%d), since without them it would be as full: %s", pool.use(), idle, pool.widen())
	case reading > 0:
		return nil // the streams that read from them give up and say so
	}
	return d.noticeOnce(stays+pool.uuid, "%s, and snapd has no snapshot there that it could drop: %s", pool.use(), pool.widen())
}

// freed tells whether a pool has more room of the kind that it lacks.
func (v volume) freed(before, after poolStatus) bool {
	return v.dataUse >= dropData && after.data.used < before.data.used ||
		v.metaUse >= dropMeta && after.meta.used < before.meta.used
}

// worthDropping returns the fewest of our snapshots, from the oldest on, that
// give the pool room when they are dropped. None where dropping even all of
// them would give it nothing, because other volumes have the same blocks.
func (d *Driver) worthDropping(ctx context.Context, all volumes, pool volume, ours volumes) (volumes, error) {
	if pool.metaUse >= dropMeta {
		return ours[:min(1, len(ours))], nil // every snapshot has metadata of its own
	}
	limited, cancel := context.WithTimeout(ctx, worthLimit)
	defer cancel()
	return fewest(ours, func(v volume) (bool, error) {
		alone, err := d.heldAlone(limited, all, pool, v)
		if err != nil && ctx.Err() != nil {
			return false, ctx.Err()
		}
		return err != nil || alone > 0, nil //nolint:nilerr // what cannot be found out is tried
	})
}

// fewest returns the items up to the first that counts.
func fewest(of volumes, counts func(volume) (bool, error)) (volumes, error) {
	for i, v := range of {
		does, err := counts(v)
		if err != nil {
			return nil, err
		}
		if does {
			return of[:i+1], nil
		}
	}
	return nil, nil
}

// heldAlone is how many blocks of the pool a snapshot has that the next younger
// volume of the same origin has not. Our older snapshots are dropped first. So
// dropping this one frees these blocks, unless an older snapshot that another
// program made has them too.
func (d *Driver) heldAlone(ctx context.Context, all volumes, pool, v volume) (blocks int64, err error) {
	next, ok := all.nextOf(v)
	if !ok {
		return 1, nil // no younger volume of its origin: only this one has its blocks
	}
	s, err := d.changed(ctx, pool, v.thinID, next.thinID)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	return s.count(different, leftOnly)
}

// nextOf is the next younger thin volume with the same origin, or else the
// origin. LVM gives out growing thin ids.
func (all volumes) nextOf(v volume) (volume, bool) {
	origin, _ := v.tag(tagOrigin)
	var next volume
	for _, o := range all {
		of, ours := o.tag(tagOrigin)
		kin := o.originUUID == origin || ours && of == origin
		if o.thin() && o.poolUUID == v.poolUUID && kin && o.thinID > v.thinID && (next.uuid == "" || o.thinID < next.thinID) {
			next = o
		}
	}
	if next.uuid == "" {
		next, _ = all.byUUID(origin)
	}
	return next, next.uuid != "" && next.poolUUID == v.poolUUID
}

// oursIn are our snapshots in a pool but for some, the oldest first.
func (all volumes) oursIn(pool volume, but map[string]bool) volumes {
	var ours volumes
	for _, v := range all {
		if origin, ok := v.tag(tagOrigin); ok && v.poolUUID == pool.uuid && v.isSnapshotOf(origin) && !but[v.uuid] {
			ours = append(ours, v)
		}
	}
	slices.SortStableFunc(ours, func(a, b volume) int { return cmp.Compare(a.order(), b.order()) })
	return ours
}

func (v volume) order() uint64 {
	text, _ := v.tag(tagOrder)
	n, _ := strconv.ParseUint(text, 10, 64)
	return n
}

// errPoolFirst is why a stream was given up.
func errPoolFirst(pool volume) error {
	return advice.With(fmt.Errorf("%w: gave up, since %s, and its writers come first", fs.ErrNoSpace, pool.use()), "%s", pool.widen())
}
