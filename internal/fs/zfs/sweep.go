package zfs

import (
	"context"
	"errors"
	"fmt"
	"path"
	"strconv"
	"time"

	"snapd/internal/fs"

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

func sweepPool(ctx context.Context, pool string) ([]string, error) {
	rows, err := table(ctx, pool, 4, "zfs", "list", "-Hp", "-r", "-t", "filesystem,volume", "-o", "name,creation,"+fs.PropertyOwner+","+fs.PropertyTarget, pool)
	if err != nil {
		return nil, ignoreGone(err) // exported meanwhile
	}
	var removed []string
	var failed error
	for _, row := range rows {
		if !fs.IsStageName(path.Base(row[0])) || alive(row[2]) || row[2] == "-" && young(row[1]) || waits(row[3], row[1]) {
			continue
		}
		if err := destroyStage(ctx, row[0]); err != nil {
			failed = errors.Join(failed, err)
			continue
		}
		removed = append(removed, row[0])
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
		rows, err := table(ctx, pool, 5, "zfs", "list", "-Hp", "-r", "-t", "filesystem,volume", "-o", "name,creation,used,"+fs.PropertyOwner+","+fs.PropertyTarget, pool)
		if err := ignoreGone(err); err != nil {
			return out, fmt.Errorf("look for interrupted restores in pool %s: %w", pool, err)
		}
		for _, row := range rows {
			if !fs.IsStageName(path.Base(row[0])) || alive(row[3]) || !waits(row[4], row[1]) {
				continue
			}
			bytes, _ := strconv.ParseUint(row[2], 10, 64)
			seconds, _ := strconv.ParseInt(row[1], 10, 64)
			out = append(out, fmt.Sprintf("an interrupted restore to zfs:%s waits in %s (%s): the same restore goes on with it, and what was not gone on with is removed after %s",
				row[4], row[0], humanize.IBytes(bytes), time.Unix(seconds, 0).Add(keptFor).Format("2006-01-02 15:04")))
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
