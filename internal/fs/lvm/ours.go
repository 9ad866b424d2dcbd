package lvm

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"snapd/internal/fs"
)

// Ours implements fs.OwnLister. A classic snapshot that overflowed is of no use,
// takes room all the same, and is listed.
func (d *Driver) Ours(ctx context.Context) ([]fs.Snapshot, error) {
	if !d.used() {
		return nil, nil
	}
	all, err := d.list(ctx)
	if err != nil {
		return nil, fmt.Errorf("look for snapshots of ours on LVM: %w", err)
	}
	return all.ours()
}

// ours are the snapshots of ours among the volumes.
func (all volumes) ours() ([]fs.Snapshot, error) {
	var out []fs.Snapshot
	for _, v := range all {
		origin, tagged := v.tag(tagOrigin)
		readable := v
		readable.invalid = false
		if !tagged || v.vgTrouble != nil || !readable.isSnapshotOf(origin) {
			continue
		}
		of := fs.Dataset{Driver: fs.LVM, Name: fmt.Sprintf("a volume of %s that is gone (UUID %s)", v.vg, origin), GUID: origin, Domain: fs.LVM + ":" + v.vgUUID + "/" + origin}
		if found, there := all.byUUID(origin); there {
			of = datasetOf(found)
		}
		s, err := describe(v, of)
		if err != nil {
			return nil, err
		}
		out = append(out, s)
	}
	slices.SortFunc(out, func(a, b fs.Snapshot) int {
		return cmp.Or(cmp.Compare(a.Dataset.Name, b.Dataset.Name), cmp.Compare(a.Order, b.Order), cmp.Compare(a.Name, b.Name))
	})
	return out, nil
}
