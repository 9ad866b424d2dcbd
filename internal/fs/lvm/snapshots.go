package lvm

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"

	"snapd/internal/fs"
)

// Snapshots implements fs.Driver. A classic snapshot that overflowed, or that
// had to make room, is still listed when the digests of its blocks are known
// here: it cannot be read any more, but serves as a base.
func (d *Driver) Snapshots(ctx context.Context, dataset fs.Dataset) ([]fs.Snapshot, error) {
	found, err := d.snapshots(ctx, dataset)
	if err != nil {
		return nil, fmt.Errorf("list snapshots of %s: %w", dataset.Name, err)
	}
	return found, nil
}

func (d *Driver) snapshots(ctx context.Context, dataset fs.Dataset) ([]fs.Snapshot, error) {
	all, err := d.list(ctx)
	if err != nil {
		return nil, err
	}
	_, gone := all.dataset(dataset)
	var found []fs.Snapshot
	for _, v := range all {
		if !v.isSnapshotOf(dataset.GUID) {
			continue
		}
		s, err := describe(v, dataset)
		if err != nil {
			return nil, err
		}
		found = append(found, s)
	}
	remembered, err := d.remembered(dataset)
	if err != nil {
		return nil, err
	}
	for _, s := range remembered {
		if !slices.ContainsFunc(found, func(f fs.Snapshot) bool { return f.GUID == s.GUID }) {
			found = append(found, s)
		}
	}
	slices.SortFunc(found, func(a, b fs.Snapshot) int {
		return cmp.Or(cmp.Compare(a.Order, b.Order), a.Time.Compare(b.Time), cmp.Compare(a.Name, b.Name))
	})
	if len(found) == 0 && gone != nil {
		return nil, gone
	}
	return found, nil
}

// isSnapshotOf tells by tags and name whether this is a snapshot of ours, and
// one that can be read.
func (v volume) isSnapshotOf(origin string) bool {
	tagged, ok := v.tag(tagOrigin)
	if !ok || tagged != origin || !slices.Contains(v.tags, tagOurs) || v.invalid {
		return false
	}
	_, err := fs.ParseLVMSnapshotName(v.name, origin)
	return err == nil
}

// describe makes a snapshot of a volume that is one.
func describe(v volume, dataset fs.Dataset) (fs.Snapshot, error) {
	origin, _ := v.tag(tagOrigin)
	name, err := fs.ParseLVMSnapshotName(v.name, origin)
	if err != nil {
		return fs.Snapshot{}, err
	}
	text, _ := v.tag(tagOrder)
	order, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		return fs.Snapshot{}, fmt.Errorf("%s: its tag %s is damaged: %w", v.full(), tagOrder, err)
	}
	return fs.Snapshot{Dataset: dataset, Name: name, GUID: v.uuid, Order: order, Time: v.made}, nil
}

// snapshot finds the volume of a snapshot and checks that it is the one meant.
func (all volumes) snapshot(s fs.Snapshot) (volume, error) {
	v, ok := all.byUUID(s.GUID)
	switch {
	case !ok:
		return volume{}, fmt.Errorf("snapshot %s: %w", s.Name, fs.ErrNotFound)
	case !v.isSnapshotOf(s.Dataset.GUID) || v.name != fs.LVMSnapshotName(s.Name, s.Dataset.GUID):
		why := "it is not tagged as snapd's, or is of another volume"
		if v.invalid {
			why = "it overflowed, so its contents are lost"
		}
		return volume{}, fmt.Errorf("snapshot %s, volume %s: %s: %w", s.Name, v.full(), why, fs.ErrNotFound)
	}
	return v, nil
}

// Delete implements fs.Driver. It asks for three keys: a name of ours, the
// snapshot's UUID, and our tags.
func (d *Driver) Delete(ctx context.Context, s fs.Snapshot) error {
	if _, _, err := fs.ParseSnapshotName(s.Name); err != nil {
		return fmt.Errorf("delete snapshot: %w", err)
	}
	if err := d.deleteSnapshot(ctx, s); err != nil {
		return fmt.Errorf("delete snapshot %s of %s: %w", s.Name, s.Dataset.Name, err)
	}
	return nil
}

func (d *Driver) deleteSnapshot(ctx context.Context, s fs.Snapshot) error {
	all, err := d.list(ctx)
	if err != nil {
		return err
	}
	v, there := all.byUUID(s.GUID)
	if !there {
		if other, ok := all.find(func(v volume) bool { return v.name == fs.LVMSnapshotName(s.Name, s.Dataset.GUID) }); ok {
			return fmt.Errorf("%s is %s, not %s: it is left alone", other.full(), other.uuid, s.GUID)
		}
		return d.forget(s)
	}
	if origin, _ := v.tag(tagOrigin); origin != s.Dataset.GUID || v.name != fs.LVMSnapshotName(s.Name, s.Dataset.GUID) || !slices.Contains(v.tags, tagOurs) {
		return fmt.Errorf("volume %s is %s: it is not this snapshot, and left alone", s.GUID, v.full())
	}
	if err := d.remove(ctx, v); err != nil && !errors.Is(err, fs.ErrNotFound) {
		return err
	}
	return d.forget(s)
}

// remove removes a volume of ours.
func (d *Driver) remove(ctx context.Context, v volume) error {
	return d.change(ctx, "lvremove", "-q", "-y", v.full())
}
