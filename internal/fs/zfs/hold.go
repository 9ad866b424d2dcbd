package zfs

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"snapd/internal/fs"
)

// Protect holds a snapshot, and its base if that is one, so that no program can
// destroy them while they are shipped; purpose says for which repository (its
// id). It may be called twice. The holds stay until Shipped, Delete or Tidy,
// also through a crash.
func (d *Driver) Protect(ctx context.Context, purpose string, s fs.Snapshot, base *fs.Snapshot) error {
	a, err := d.ask(ctx, s, base)
	if err != nil {
		return fmt.Errorf("protect snapshot %s of %s: %w", s.Name, s.Dataset.Name, err)
	}
	for _, name := range a.held() {
		err := command(ctx, a.pool, "zfs", "hold", fs.HoldName(purpose), name)
		if err != nil && !errors.Is(err, fs.ErrExists) {
			return fmt.Errorf("hold snapshot %s: %w", name, err)
		}
	}
	return nil
}

// held are the snapshots that a ship needs. A bookmark cannot be held.
func (a asked) held() []string {
	if a.base != nil && !a.base.bookmark() {
		return []string{a.snap.name, a.base.name}
	}
	return []string{a.snap.name}
}

// Shipped leaves a bookmark of a snapshot whose stream is committed, which can
// be the base of increments when the snapshot is gone, and releases what
// Protect held for this purpose. It may be called twice.
func (d *Driver) Shipped(ctx context.Context, purpose string, s fs.Snapshot) error {
	if err := d.shipped(ctx, purpose, s); err != nil {
		return fmt.Errorf("bookmark snapshot %s of %s: %w", s.Name, s.Dataset.Name, err)
	}
	return nil
}

func (d *Driver) shipped(ctx context.Context, purpose string, s fs.Snapshot) error {
	all, err := d.instants(ctx, s.Dataset, "snapshot,bookmark")
	if err != nil {
		return err
	}
	m, there := instantWith(all, s.GUID)
	if there && !m.bookmark() && !bookmarked(all, m.guid) {
		name := strings.Replace(m.name, "@", "#", 1)
		if !ours(m) { // a user gave our snapshot another name
			name, _, _ = strings.Cut(name, "#")
			name += "#" + s.Name
		}
		if err := command(ctx, poolOf(m.name), "zfs", "bookmark", m.name, name); err != nil {
			return err
		}
	}
	return release(ctx, all, func(tag string, _ instant) bool { return tag == fs.HoldName(purpose) })
}

func bookmarked(all []instant, guid uint64) bool {
	for _, m := range all {
		if m.guid == guid && m.bookmark() {
			return true
		}
	}
	return false
}

// Tidy removes from a dataset the bookmarks of ours and the holds of ours that
// nothing needs any more: those for which needed and held say no. Guids are of
// snapshots. It says what it removed.
func (d *Driver) Tidy(ctx context.Context, dataset fs.Dataset, needed func(guid string) bool, held func(purpose, guid string) bool) ([]string, error) {
	removed, err := d.tidy(ctx, dataset, needed, held)
	if err != nil {
		err = fmt.Errorf("tidy %s: %w", dataset.Name, err)
	}
	return removed, err
}

func (d *Driver) tidy(ctx context.Context, dataset fs.Dataset, needed func(string) bool, held func(purpose, guid string) bool) (removed []string, err error) {
	all, err := d.instants(ctx, dataset, "snapshot,bookmark")
	if errors.Is(err, fs.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	err = release(ctx, all, func(tag string, m instant) bool {
		purpose, ours := fs.ParseHoldName(tag)
		if !ours || held(purpose, guidText(m.guid)) {
			return false
		}
		removed = append(removed, "hold "+tag+" of "+m.name)
		return true
	})
	if err != nil {
		return removed, err
	}
	for _, m := range all {
		if !m.bookmark() || !ours(m) || needed(guidText(m.guid)) {
			continue
		}
		if err := command(ctx, poolOf(m.name), "zfs", "destroy", m.name); err != nil && !errors.Is(err, fs.ErrNotFound) {
			return removed, err
		}
		removed = append(removed, m.name)
	}
	return removed, nil
}

// holdsMost is how many snapshots one command is asked about.
const holdsMost = 200

// release releases those holds on a dataset's snapshots that which wants.
func release(ctx context.Context, all []instant, which func(tag string, m instant) bool) error {
	byName := make(map[string]instant)
	var names []string
	for _, m := range all {
		if m.holds > 0 {
			byName[m.name] = m
			names = append(names, m.name)
		}
	}
	for len(names) > 0 {
		n := min(len(names), holdsMost)
		rows, err := table(ctx, poolOf(names[0]), 3, append([]string{"zfs", "holds", "-Hp"}, names[:n]...)...)
		if err != nil && !errors.Is(err, fs.ErrNotFound) {
			return err
		}
		names = names[n:]
		for _, row := range rows {
			if m, known := byName[row[0]]; !known || !which(row[1], m) {
				continue
			}
			if err := command(ctx, poolOf(row[0]), "zfs", "release", row[1], row[0]); err != nil && !gone(err) {
				return err
			}
		}
	}
	return nil
}

// gone tells that another process was faster.
func gone(err error) bool {
	said, _ := stderr(err)
	return errors.Is(err, fs.ErrNotFound) || strings.Contains(said, "no such tag")
}

// releaseAll releases every hold of ours on a snapshot.
func releaseAll(ctx context.Context, m instant) error {
	return release(ctx, []instant{m}, func(tag string, _ instant) bool {
		_, ours := fs.ParseHoldName(tag)
		return ours
	})
}

// Bookmarks are the guids of a dataset's snapshots of which there is a
// bookmark: those need not stay to be the base of increments.
func (d *Driver) Bookmarks(ctx context.Context, dataset fs.Dataset) (map[string]bool, error) {
	all, err := d.instants(ctx, dataset, "bookmark")
	if err != nil {
		return nil, fmt.Errorf("list the bookmarks of %s: %w", dataset.Name, err)
	}
	out := make(map[string]bool)
	for _, m := range all {
		out[guidText(m.guid)] = true
	}
	return out, nil
}
