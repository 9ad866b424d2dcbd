package zfs

import (
	"context"
	"errors"
	"fmt"
	"path"
	"strconv"
	"time"

	"snapd/internal/fs"
	"snapd/internal/proc"

	"github.com/dustin/go-humanize"
)

// Sweep removes datasets in which killed processes were building restores, on
// all imported pools, and returns their names. Those of living processes stay,
// those that a restore may go on with for a week, and everything on a suspended
// pool.
func (d *Driver) Sweep(ctx context.Context) ([]string, error) {
	pools, err := healthyPools(ctx)
	if err != nil {
		if missing(err) {
			return nil, nil // ZFS without its programs: we have not been here
		}
		return nil, fmt.Errorf("sweep ZFS pools: %w", err)
	}
	var removed []string
	var failed error
	for _, pool := range pools {
		gone, err := sweepPool(ctx, pool)
		removed = append(removed, gone...)
		if err != nil {
			failed = errors.Join(failed, fmt.Errorf("sweep ZFS pool %s: %w", pool, err))
		}
	}
	return removed, failed
}

// abandoned is a dataset in which no living process builds a restore any more.
type abandoned struct {
	name, target string
	used         uint64    // bytes
	waits        time.Time // until when a restore may go on with it; zero: none can
	young        bool      // a living process may just be marking it
}

// abandonedIn lists those of a pool.
func abandonedIn(ctx context.Context, pool string) ([]abandoned, error) {
	rows, err := table(ctx, pool, 5, "zfs", "list", "-Hp", "-r", "-t", "filesystem,volume", "-o", "name,creation,used,"+fs.PropertyOwner+","+fs.PropertyTarget, pool)
	if err != nil {
		return nil, ignoreGone(err) // exported meanwhile
	}
	var out []abandoned
	for _, row := range rows {
		if !fs.IsStageName(path.Base(row[0])) || proc.Lives(row[3]) {
			continue
		}
		used, err := strconv.ParseUint(row[2], 10, 64)
		if err != nil {
			return nil, fmt.Errorf("zfs list says that %s uses %q", row[0], row[2])
		}
		out = append(out, abandoned{name: row[0], target: row[4], used: used, waits: waitsUntil(row[4], row[1]), young: row[3] == "-" && young(row[1])})
	}
	return out, nil
}

func sweepPool(ctx context.Context, pool string) ([]string, error) {
	all, err := abandonedIn(ctx, pool)
	if err != nil {
		return nil, err
	}
	var removed []string
	var failed error
	for _, a := range all {
		if a.young || time.Now().Before(a.waits) {
			continue
		}
		if err := destroyStage(ctx, a.name); err != nil {
			failed = errors.Join(failed, err)
			continue
		}
		removed = append(removed, a.name)
	}
	return removed, failed
}

// Interrupted says which restores were interrupted and can be gone on with, and
// until when.
func (d *Driver) Interrupted(ctx context.Context) ([]string, error) {
	pools, err := healthyPools(ctx)
	if err != nil && !missing(err) {
		return nil, fmt.Errorf("look for interrupted restores: %w", err)
	}
	var out []string
	for _, pool := range pools {
		all, err := abandonedIn(ctx, pool)
		if err != nil {
			return out, fmt.Errorf("look for interrupted restores in pool %s: %w", pool, err)
		}
		for _, a := range all {
			if time.Now().Before(a.waits) {
				out = append(out, fmt.Sprintf("an interrupted restore to zfs:%s waits in %s (%s): the same restore goes on with it, and what was not gone on with is removed after %s",
					a.target, a.name, humanize.IBytes(a.used), a.waits.Format("2006-01-02 15:04")))
			}
		}
	}
	return out, nil
}

// young tells of a dataset without an owner whether it may just be getting or
// losing that mark: for a moment when it is made, and when it is handed over.
func young(creation string) bool {
	seconds, err := strconv.ParseInt(creation, 10, 64)
	return err == nil && time.Since(time.Unix(seconds, 0)) < time.Minute
}
