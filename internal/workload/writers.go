package workload

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"snapd/internal/config"
	"snapd/internal/fs"
	"snapd/internal/proc"

	"golang.org/x/sys/unix"
)

// writers finds running containers outside the group that have one of its
// datasets mounted for writing. What cannot be found out is a warning.
func (r *resolver) writers(ctx context.Context, all []Container) error {
	devs := map[proc.Device]bool{}
	for _, s := range r.spots {
		devs[s.dev] = true
	}
	for _, c := range all {
		if _, member := r.group.Member(c.ID); member || !c.Running || c.Pid <= 0 && c.Fault == nil {
			continue
		}
		if c.Fault != nil {
			r.faulty(ctx, c)
			continue
		}
		w := Writer{Container: c, Refuses: refuses(c)}
		for _, m := range c.Mounts {
			if err := ctx.Err(); err != nil {
				return err
			}
			if m.Writable && m.Kind != Tmpfs && !network(m.FSType) {
				r.writes(ctx, &w, c, m, devs)
			}
		}
		if len(w.Datasets) > 0 {
			r.out.Writers = append(r.out.Writers, w)
		}
	}
	return nil
}

// refuses tells whether a container's labels say that it must not be frozen.
func refuses(c Container) bool {
	l, err := config.ParseLabels(c.Labels, c.ImageLabels)
	if err != nil {
		return false
	}
	return l.Enable != nil && !*l.Enable || l.Settings.Freeze == config.FreezeNone
}

// writes adds to w what one mount of another container reaches.
func (r *resolver) writes(ctx context.Context, w *Writer, c Container, m Mount, devs map[proc.Device]bool) {
	t, err := r.table(c)
	if errors.Is(err, os.ErrNotExist) || errors.Is(err, unix.ESRCH) {
		return // it has ended
	}
	if err != nil {
		r.warn("whether container %s writes to the group's datasets cannot be told: %v", c.Name, err)
		return
	}
	entry, found := t.At(filepath.Clean(m.Target))
	if !found {
		entry, found = r.bySource(ctx, t, m.Source)
	}
	if !found || !devs[spotOf(entry).dev] || strings.HasSuffix(entry.Root, deleted) {
		return
	}
	where := spotOf(entry)
	path, err := r.names.path(ctx, where, m.Source)
	if err == nil {
		err = r.reaches(ctx, w, where, path)
	}
	if err != nil {
		r.warn("whether %s of container %s reaches the group's datasets cannot be told: %v", m, c.Name, err)
	}
}

// reaches adds to w the group's datasets that something at a path of the host
// reaches.
func (r *resolver) reaches(ctx context.Context, w *Writer, where spot, path string) error {
	place, err := r.locate(ctx, path)
	if err != nil {
		return err
	}
	var reached []fs.Dataset
	if slices.ContainsFunc(r.out.Places, func(p ResolvedPlace) bool { return sameDataset(p.Dataset, place.Dataset) }) {
		reached = append(reached, place.Dataset)
	}
	for _, s := range r.spots { // a mount of something above a dataset reaches into it too
		if where.overlaps(s.spot) {
			reached = append(reached, s.dataset)
			w.Overlaps = true
		}
	}
	for _, d := range reached {
		w.Paths = addNew(w.Paths, path)
		if !slices.ContainsFunc(w.Datasets, func(o fs.Dataset) bool { return sameDataset(o, d) }) {
			w.Datasets = append(w.Datasets, d)
		}
	}
	return nil
}
