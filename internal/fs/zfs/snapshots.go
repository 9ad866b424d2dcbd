package zfs

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"snapd/internal/fs"
)

// instant is a snapshot or a bookmark of one dataset: both name one instant of it.
type instant struct {
	name      string // whole, with the dataset
	guid      uint64
	createTXG uint64
	creation  time.Time
	holds     uint64 // on a snapshot, ours and others'
}

// instantColumns are what parseInstants reads, of zfs list -Hp.
const (
	instantColumns = "name,guid,createtxg,creation,userrefs"
	instantCount   = 5
)

func (m instant) bookmark() bool { return strings.Contains(m.name, "#") }

// short is what follows the dataset's name.
func (m instant) short() string { return m.name[strings.IndexAny(m.name, "@#")+1:] }

func (m instant) snapshot(of fs.Dataset) fs.Snapshot {
	return fs.Snapshot{Dataset: of, Name: m.short(), GUID: guidText(m.guid), Order: m.createTXG, Time: m.creation}
}

// instantsOf lists the snapshots and bookmarks of a dataset, ours and others',
// oldest first; of the same guid the snapshot comes before the bookmark.
func instantsOf(ctx context.Context, o object, kinds string) ([]instant, error) {
	rows, err := table(ctx, o.pool(), instantCount, "zfs", "list", "-Hp", "-d", "1", "-t", kinds, "-o", instantColumns, o.name)
	if err != nil {
		return nil, err
	}
	instants, err := parseInstants(rows)
	if err != nil {
		return nil, err
	}
	slices.SortStableFunc(instants, func(a, b instant) int {
		return cmp.Or(cmp.Compare(a.createTXG, b.createTXG), cmp.Compare(order(a), order(b)))
	})
	return instants, nil
}

func order(m instant) int {
	if m.bookmark() {
		return 1
	}
	return 0
}

func parseInstants(rows [][]string) ([]instant, error) {
	instants := make([]instant, 0, len(rows))
	for _, row := range rows {
		var n [4]uint64
		for i := range n {
			var err error
			if n[i], err = strconv.ParseUint(row[i+1], 10, 64); err != nil && row[i+1] != "-" { // a bookmark has no holds
				return nil, fmt.Errorf("zfs list says of %s: %w", row[0], err)
			}
		}
		if !strings.ContainsAny(row[0], "@#") {
			return nil, fmt.Errorf("zfs list names %q, which is neither a snapshot nor a bookmark", row[0])
		}
		instants = append(instants, instant{name: row[0], guid: n[0], createTXG: n[1], creation: time.Unix(int64(n[2]), 0).UTC(), holds: n[3]})
	}
	return instants, nil
}

// Snapshots implements fs.Driver.
func (d *Driver) Snapshots(ctx context.Context, dataset fs.Dataset) ([]fs.Snapshot, error) {
	all, err := d.instants(ctx, dataset, "snapshot")
	if err != nil {
		return nil, fmt.Errorf("list the snapshots of %s: %w", dataset.Name, err)
	}
	var out []fs.Snapshot
	for _, m := range all {
		if ours(m) {
			out = append(out, m.snapshot(dataset))
		}
	}
	return out, nil
}

// Bases lists what increments of a dataset can build on, oldest first: all its
// snapshots and bookmarks, ours and others', each guid once.
func (d *Driver) Bases(ctx context.Context, dataset fs.Dataset) ([]fs.Snapshot, error) {
	all, err := d.instants(ctx, dataset, "snapshot,bookmark")
	if err != nil {
		return nil, fmt.Errorf("list the snapshots and bookmarks of %s: %w", dataset.Name, err)
	}
	var out []fs.Snapshot
	seen := make(map[uint64]bool)
	for _, m := range all {
		if !seen[m.guid] {
			seen[m.guid] = true
			out = append(out, m.snapshot(dataset))
		}
	}
	return out, nil
}

func (d *Driver) instants(ctx context.Context, dataset fs.Dataset, kinds string) ([]instant, error) {
	found, err := d.find(ctx, dataset)
	if err != nil {
		return nil, err
	}
	return instantsOf(ctx, found[0], kinds)
}

func ours(m instant) bool {
	_, _, err := fs.ParseSnapshotName(m.short())
	return err == nil
}

// instantWith returns the one with a guid, a snapshot before a bookmark.
func instantWith(instants []instant, guid string) (instant, bool) {
	i := slices.IndexFunc(instants, func(m instant) bool { return guidText(m.guid) == guid })
	if i < 0 {
		return instant{}, false
	}
	return instants[i], true
}

// Delete implements fs.Driver. Holds of ours go with it: the caller has made
// sure that no ship needs the snapshot.
func (d *Driver) Delete(ctx context.Context, s fs.Snapshot) error {
	if err := d.remove(ctx, s); err != nil {
		return fmt.Errorf("delete snapshot %s of %s: %w", s.Name, s.Dataset.Name, err)
	}
	return nil
}

func (d *Driver) remove(ctx context.Context, s fs.Snapshot) error {
	if _, _, err := fs.ParseSnapshotName(s.Name); err != nil {
		return err
	}
	all, err := d.instants(ctx, s.Dataset, "snapshot")
	if errors.Is(err, fs.ErrNotFound) && imported(ctx, s.Dataset) {
		return nil // the dataset was destroyed, and with it the snapshot
	}
	if err != nil {
		return err
	}
	m, there := instantWith(all, s.GUID)
	if !there {
		return nil
	}
	if m.short() != s.Name {
		return fmt.Errorf("the snapshot with guid %s is called %s; nothing was deleted", s.GUID, m.name)
	}
	if err := releaseAll(ctx, m); err != nil {
		return err
	}
	err = command(ctx, poolOf(m.name), "zfs", "destroy", m.name)
	if errors.Is(err, fs.ErrNotFound) {
		return nil
	}
	return err
}

// imported tells whether the pool that a dataset was on is here: a dataset that
// is missing there is gone, and one of a pool that is not here may come back.
func imported(ctx context.Context, dataset fs.Dataset) bool {
	rows, err := table(ctx, "", 1, "zpool", "list", "-Hp", "-o", "guid")
	return err == nil && slices.ContainsFunc(rows, func(row []string) bool { return fs.ZFS+":"+row[0] == dataset.Domain })
}
