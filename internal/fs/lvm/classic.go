package lvm

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"snapd/internal/advice"
	"snapd/internal/durable"
	"snapd/internal/fs"
	"snapd/internal/fs/lvm/lvmstream"
	"snapd/internal/proc"
)

// Classic snapshots have a size of their own: what is overwritten at the
// origin goes there, and when it is full the snapshot is lost. The size is
// chosen from what was written lately and looked after by Tend.
const (
	classicLife   = 24 * time.Hour // that it should last without being extended
	classicMargin = 2              // times what is expected
	classicLeast  = 64 << 20       // bytes
	classicFull   = 70             // per cent, from which on it is extended
	classicLost   = 100
)

// writes is how much was written to a volume since it was activated.
type writes struct {
	Boot  string    `json:"boot"`
	Time  time.Time `json:"time"`
	Bytes int64     `json:"bytes"`
}

// classicSizes chooses the sizes of snapshots of classic volumes that are taken
// together, by the volumes' UUIDs.
func (d *Driver) classicSizes(volumes []volume) (map[string]int64, error) {
	wants := map[string]int64{}
	groups := map[string][]volume{}
	for _, v := range volumes {
		rate, err := d.writeRate(v, time.Now())
		if err != nil {
			return nil, err
		}
		if _, twice := wants[v.uuid]; !twice {
			wants[v.uuid] = chooseSize(v, rate)
			groups[v.vg] = append(groups[v.vg], v)
		}
	}
	for _, of := range groups {
		if err := shareRoom(of, wants); err != nil {
			return nil, err
		}
	}
	return wants, nil
}

// leastSize is the smallest snapshot that is taken of a volume.
func leastSize(v volume) int64 {
	return (min(classicLeast, wholeSize(v)) + v.extent - 1) / v.extent * v.extent
}

// shareRoom cuts what the snapshots of volumes of one group want to what the group
// has. Each gets the least first. Of the rest half stays free: what is written
// right after a boot or a restore, where the rate is not known yet, would take all
// of it, and the others, also those of the next call, would get nothing; and a
// snapshot that fills is extended from it.
func shareRoom(of []volume, wants map[string]int64) error {
	free, needed := of[0].vgFree, int64(0)
	for _, v := range of {
		needed += leastSize(v)
	}
	if needed > free {
		what := "a snapshot of the classic volume " + of[0].full() + " needs"
		if len(of) > 1 {
			what = fmt.Sprintf("snapshots of %d classic volumes (%s and others) need", len(of), of[0].full())
		}
		return advice.With(fmt.Errorf("%w: %s at least %d MiB in volume group %s, and %d are free",
			fs.ErrNoSpace, what, needed>>20, of[0].vg, free>>20), "add a physical volume (vgextend), or use a thin pool, whose snapshots share room")
	}
	rest := (free - needed) / 2
	for i, v := range of {
		least := leastSize(v)
		share := rest / int64(len(of)-i) / v.extent * v.extent
		more := min(max(wants[v.uuid]-least, 0), share)
		wants[v.uuid], rest = least+more, rest-more
	}
	return nil
}

// chooseSize is for a volume that is written to at rate bytes a second.
func chooseSize(v volume, rate float64) int64 {
	expected := int64(rate * classicLife.Seconds() * classicMargin)
	size := max(expected, v.size/50, classicLeast)
	size = min(size, wholeSize(v))
	return (size + v.extent - 1) / v.extent * v.extent
}

// wholeSize is enough for every block of a volume to be overwritten.
func wholeSize(v volume) int64 {
	const perChunk, chunk = 16, 4 << 10 // bytes of the exception table for each chunk
	whole := v.size + v.size/chunk*perChunk + 4*v.extent
	return (whole + v.extent - 1) / v.extent * v.extent
}

// writeRate is how many bytes a second were written since it was asked last,
// or since the host came up.
func (d *Driver) writeRate(v volume, now time.Time) (float64, error) {
	if !v.active() {
		return 0, nil
	}
	text, err := os.ReadFile(v.kernel().Sys("stat"))
	if err != nil {
		return 0, fmt.Errorf("ask how much is written to %s: %w", v.full(), err)
	}
	current := writes{Boot: proc.BootID(), Time: now}
	if current.Bytes, err = sectorsWritten(string(text)); err != nil {
		return 0, fmt.Errorf("ask how much is written to %s: %w", v.full(), err)
	}
	dir, err := d.stateDir("writes")
	if err != nil {
		return 0, err
	}
	file := filepath.Join(dir, v.uuid+".json")
	var before writes
	if text, err := os.ReadFile(file); err == nil {
		_ = json.Unmarshal(text, &before) // damaged: as if it were not there
	}
	rate := rateBetween(before, current, proc.Uptime())
	text, err = json.Marshal(current)
	if err == nil {
		err = durable.Write(file, text, 0o600)
	}
	return rate, err
}

// rateBetween is in bytes a second. A short time says little, so at least ten
// minutes count.
func rateBetween(before, now writes, up time.Duration) float64 {
	span, wrote := up, now.Bytes
	if before.Boot == now.Boot && before.Bytes <= now.Bytes && now.Time.After(before.Time) {
		span, wrote = now.Time.Sub(before.Time), now.Bytes-before.Bytes
	}
	return float64(wrote) / max(span, 10*time.Minute).Seconds()
}

// sectorsWritten reads the seventh number of a block device's stat, in bytes.
func sectorsWritten(stat string) (int64, error) {
	words := strings.Fields(stat)
	if len(words) < 7 {
		return 0, fmt.Errorf("its statistics are %q", stat)
	}
	n, err := strconv.ParseInt(words[6], 10, 64)
	return n * lvmstream.Sector, err
}

// tendClassic extends our classic snapshots that fill, and removes those that
// overflowed.
func (d *Driver) tendClassic(ctx context.Context, all volumes) error {
	var failed error
	for _, v := range all {
		_, ours := v.tag(tagOrigin)
		if !ours || v.thin() {
			continue
		}
		origin, ok := all.byUUID(v.originUUID)
		if !ok {
			continue
		}
		switch {
		case v.invalid || v.dataUse >= classicLost:
			failed = errors.Join(failed, d.removeOverflowed(ctx, v))
		case v.dataUse >= classicFull:
			failed = errors.Join(failed, d.extendClassic(ctx, v, origin))
		}
	}
	return failed
}

func (d *Driver) removeOverflowed(ctx context.Context, v volume) error {
	err := d.remove(ctx, v)
	if errors.Is(err, fs.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	return d.notice("LOST the classic snapshot %s: more was written to its origin than it had room for; its volume is unharmed. "+
		"Ship it sooner, or give volume group %s more free space", v.full(), v.vg)
}

// extendClassic gives a snapshot half as much again.
func (d *Driver) extendClassic(ctx context.Context, v, origin volume) error {
	size := v.cowSize
	want := min((size+size/2+v.extent-1)/v.extent*v.extent, wholeSize(origin))
	want = min(want, size+v.vgFree/v.extent*v.extent)
	if want <= size {
		return d.noticeOnce(tight+v.uuid, "the classic snapshot %s is %.0f %% full and volume group %s has no room to extend it: it will be lost; ship it now, or add a physical volume (vgextend)",
			v.full(), v.dataUse, v.vg)
	}
	err := d.change(ctx, "lvextend", "-q", "-L", strconv.FormatInt(want, 10)+"b", v.full())
	if errors.Is(err, fs.ErrNotFound) {
		return nil
	}
	return err
}
