package zfs

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	"snapd/internal/fs"
)

// Ours implements fs.OwnLister. A pool that is suspended is an error: it would
// keep the command that asks.
func (d *Driver) Ours(ctx context.Context) ([]fs.Snapshot, error) {
	out, err := allOurs(ctx)
	if err != nil {
		err = fmt.Errorf("look for snapshots of ours on ZFS: %w", err)
	}
	return out, err
}

func allOurs(ctx context.Context) ([]fs.Snapshot, error) {
	if !present() {
		return nil, nil
	}
	rows, err := table(ctx, "", 1, "zpool", "list", "-Hp", "-o", "name")
	if missing(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var out []fs.Snapshot
	for _, row := range rows {
		if err := suspended(row[0]); err != nil {
			return out, err
		}
		found, err := oursIn(ctx, row[0])
		if err != nil {
			return out, fmt.Errorf("pool %s: %w", row[0], err)
		}
		out = append(out, found...)
	}
	return out, nil
}

func oursIn(ctx context.Context, pool string) ([]fs.Snapshot, error) {
	rows, err := table(ctx, pool, instantCount, "zfs", "list", "-Hp", "-r", "-t", "snapshot", "-o", instantColumns, pool)
	if err != nil {
		return nil, ignoreGone(err) // exported meanwhile
	}
	instants, err := parseInstants(rows)
	if err != nil {
		return nil, err
	}
	instants = slices.DeleteFunc(instants, func(m instant) bool { return !ours(m) })
	if len(instants) == 0 {
		return nil, nil
	}
	where, err := domain(ctx, pool)
	if err != nil {
		return nil, err
	}
	rows, err = table(ctx, pool, 2, "zfs", "list", "-Hp", "-r", "-t", "filesystem,volume", "-o", "name,guid", pool)
	if err != nil {
		return nil, ignoreGone(err)
	}
	return oursOf(instants, rows, where), nil
}

// oursOf makes snapshots of what zfs list said of them and of the datasets. One
// whose dataset is not listed was made or renamed between the two, and is
// left out.
func oursOf(instants []instant, datasets [][]string, where string) []fs.Snapshot {
	guids := make(map[string]string, len(datasets))
	for _, row := range datasets {
		guids[row[0]] = row[1]
	}
	var out []fs.Snapshot
	for _, m := range instants {
		name, _, _ := strings.Cut(m.name, "@")
		guid, err := parseGUID(guids[name])
		if err != nil {
			continue
		}
		out = append(out, m.snapshot(fs.Dataset{Driver: fs.ZFS, Name: name, GUID: guidText(guid), Domain: where}))
	}
	slices.SortStableFunc(out, func(a, b fs.Snapshot) int {
		return cmp.Or(cmp.Compare(a.Dataset.Name, b.Dataset.Name), cmp.Compare(a.Order, b.Order))
	})
	return out
}
