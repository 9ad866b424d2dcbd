package lvm

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"snapd/internal/fs"
	"snapd/internal/proc"
)

// Sweep removes what killed processes left: volumes that were being restored
// into or checked, metadata snapshots of thin pools, and it deactivates
// snapshots of ours that no process reads any more. It returns what it removed.
// What a living process works on stays.
func (d *Driver) Sweep(ctx context.Context) ([]string, error) {
	if !d.used() {
		return nil, nil
	}
	all, err := d.list(ctx)
	if err != nil {
		return nil, fmt.Errorf("sweep LVM: %w", err)
	}
	removed, failed := d.sweepMetadata(ctx, all)
	for _, v := range all {
		if err := ctx.Err(); err != nil {
			return removed, errors.Join(failed, err)
		}
		by, owned := v.tag(tagOwner)
		switch {
		case v.unproven() && strings.HasPrefix(v.name, fs.LVMRestorePrefix) && owned && !proc.Lives(by):
			if err := d.sweepUnproven(ctx, v); err != nil && !errors.Is(err, fs.ErrNotFound) {
				failed = errors.Join(failed, err)
				continue
			}
			removed = append(removed, "the logical volume "+v.full())
		case slices.Contains(v.tags, tagTemporary) && strings.HasPrefix(v.name, fs.LVMRestorePrefix) && owned && !proc.Lives(by):
			if err := d.remove(ctx, v); err != nil && !errors.Is(err, fs.ErrNotFound) {
				failed = errors.Join(failed, err)
				continue
			}
			removed = append(removed, "the logical volume "+v.full())
		case v.idle():
			failed = errors.Join(failed, d.deactivate(ctx, v))
		}
	}
	if failed = errors.Join(failed, d.sweepProbes(ctx)); failed != nil {
		failed = fmt.Errorf("sweep LVM: %w", failed)
	}
	return removed, failed
}

// idle tells of a snapshot of ours that is active, and that no process has open.
func (v volume) idle() bool {
	_, ours := v.tag(tagOrigin)
	return ours && v.thin() && v.active() && !v.open
}

// deactivate is no error for what another process has opened or removed meanwhile.
func (d *Driver) deactivate(ctx context.Context, v volume) error {
	err := d.change(ctx, "lvchange", "-q", "-a", "n", v.full())
	if errors.Is(err, fs.ErrBusy) || errors.Is(err, fs.ErrNotFound) {
		return nil
	}
	return err
}

// used tells whether this driver was ever asked for anything on this host:
// only then it looks after things by itself.
func (d *Driver) used() bool {
	_, err := os.Stat(d.state)
	return err == nil
}
