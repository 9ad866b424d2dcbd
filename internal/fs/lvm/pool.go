package lvm

import (
	"context"
	"fmt"
	"strings"
	"time"

	"snapd/internal/advice"
	"snapd/internal/fs"
	"snapd/internal/run"
)

// How full a thin pool may be, in per cent. A pool without room for data lets
// its writers wait for a minute and then fail; one without room for metadata
// goes offline. A snapshot by itself takes next to nothing, but keeps
// everything that is overwritten from then on.
const (
	refuseData = 90 // no snapshot is taken and nothing is restored into it
	refuseMeta = 85
	dropData   = 95 // our oldest snapshots go until it is less
	dropMeta   = 92
)

// use says how full the pool is, for people.
func (v volume) use() string {
	return fmt.Sprintf("thin pool %s is at %.1f %% of its data and %.1f %% of its metadata", v.full(), v.dataUse, v.metaUse)
}

// widen says what to do about it.
func (v volume) widen() string {
	if v.metaUse >= refuseMeta {
		return fmt.Sprintf("extend its metadata (lvextend --poolmetadatasize +256M %s), or remove volumes or snapshots", v.full())
	}
	return fmt.Sprintf("extend it (lvextend -L +10G %s), run fstrim, or remove volumes or snapshots", v.full())
}

// roomForSnapshot refuses a snapshot in a pool that is nearly full.
func (v volume) roomForSnapshot() error {
	if !v.active() {
		return nil // LVM activates it, and no program writes there now
	}
	if v.dataUse >= refuseData || v.metaUse >= refuseMeta {
		return advice.With(fmt.Errorf("%w: %s; from %d and %d %% on no snapshot is taken", fs.ErrNoSpace, v.use(), refuseData, refuseMeta), "%s", v.widen())
	}
	return nil
}

// suffers says that snapshots of ours have to go.
func (v volume) suffers() bool { return v.dataUse >= dropData || v.metaUse >= dropMeta }

// poolWatch looks at one pool now and then, while something is written to it
// for long.
type poolWatch struct {
	pool volume
	next time.Time
}

// pauses between two looks.
const (
	lookEvery = 2 * time.Second
	lookSoon  = 250 * time.Millisecond // where it may soon be too late
)

// look returns how full the pool is, if it is time to look.
func (w *poolWatch) look(ctx context.Context, now time.Time) (volume, bool, error) {
	if now.Before(w.next) {
		return volume{}, false, nil
	}
	pool, err := status(ctx, w.pool)
	w.next = now.Add(lookEvery)
	if err == nil && (pool.dataUse > refuseData-20 || pool.metaUse > refuseMeta-20) {
		w.next = now.Add(lookSoon)
	}
	return pool, true, err
}

// status asks device-mapper how full a pool is: unlike lvs this takes no lock
// and reads no disk.
func status(ctx context.Context, pool volume) (volume, error) {
	st, err := poolStatusOf(ctx, pool)
	if err != nil {
		return pool, err
	}
	pool.dataUse, pool.metaUse, pool.mode = st.data.use(), st.meta.use(), st.mode
	if st.mode == "out_of_data_space" {
		pool.dataUse = 100
	}
	return pool, nil
}

// fill is used and total blocks.
type fill struct{ used, total uint64 }

func (f fill) use() float64 {
	if f.total == 0 {
		return 100
	}
	return 100 * float64(f.used) / float64(f.total)
}

// poolStatus is what device-mapper says of a pool.
type poolStatus struct {
	transaction uint64
	meta, data  fill   // blocks
	held        string // block of the metadata snapshot, "-" when there is none
	mode        string // rw, ro, out_of_data_space, Fail
}

func poolDevice(pool volume) string { return dmName(pool.vg, pool.name, "tpool") }

func poolStatusOf(ctx context.Context, pool volume) (poolStatus, error) {
	out, err := run.Output(ctx, "dmsetup", "status", poolDevice(pool))
	if err != nil {
		return poolStatus{}, fmt.Errorf("ask how thin pool %s is: %w", pool.full(), err)
	}
	st, err := parsePoolStatus(string(out))
	if err != nil {
		return st, fmt.Errorf("ask how thin pool %s is: %w", pool.full(), err)
	}
	return st, nil
}

// parsePoolStatus reads a line such as
//
//	0 2097152 thin-pool 3 842/8192 939/16384 97 rw discard_passdown queue_if_no_space - 1024
func parsePoolStatus(line string) (poolStatus, error) {
	var st poolStatus
	words := strings.Fields(line)
	if len(words) >= 4 && words[2] == "thin-pool" && words[3] == "Fail" {
		return poolStatus{mode: "Fail", held: "-"}, nil
	}
	if len(words) < 8 || words[2] != "thin-pool" {
		return st, fmt.Errorf("device-mapper says %q, and that is no thin pool", strings.TrimSpace(line))
	}
	_, err := fmt.Sscanf(strings.Join(words[3:6], " "), "%d %d/%d %d/%d", &st.transaction, &st.meta.used, &st.meta.total, &st.data.used, &st.data.total)
	if err != nil {
		return st, fmt.Errorf("device-mapper says %q: %w", strings.TrimSpace(line), err)
	}
	st.held, st.mode = words[6], words[7]
	return st, nil
}
