package workload

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"snapd/internal/fs"
	"snapd/internal/proc"
)

// nestedMounts looks at what is mounted below something that belongs to the
// group. Datasets join the group; of the rest it says that it is not covered.
// own tells which mountpoints are looked at by themselves.
func (r *resolver) nestedMounts(ctx context.Context, t proc.Table, below, who, user string, own func(string) bool) {
	uncovered := map[string][]string{} // by kind of filesystem
	for _, m := range t.Below(below) {
		switch {
		case own(m.Point) || kernelMade(m.Type):
			continue
		case m.ReadOnly:
			r.note("%s: what is mounted read-only at %s below it is left out", who, m.Point)
			continue
		case proc.Remote(m.Type): // and not looked at
			uncovered[m.Type] = append(uncovered[m.Type], m.Point)
			continue
		}
		path, err := r.names.path(ctx, spotOf(m), m.Point)
		if err == nil {
			var place fs.Place
			if place, err = r.locate(ctx, path); err == nil {
				at, lookErr := r.names.look(ctx, path)
				if lookErr == nil {
					r.keep(place, path, user)
					r.spots = append(r.spots, owned{at.spot, place.Dataset})
					continue
				}
				err = lookErr
			}
		}
		if !errors.Is(err, fs.ErrNotMine) && !errors.Is(err, errHidden) {
			r.warn("%s: what is mounted at %s below it is not covered: %v", who, m.Point, err)
			continue
		}
		uncovered[m.Type] = append(uncovered[m.Type], m.Point)
	}
	for _, kind := range sortedKeys(uncovered) {
		r.warn("%s: not covered, because it is %s: %s", who, kindOf(kind), some(uncovered[kind]))
	}
}

// nestedDatasets says which datasets lie below the group's paths and are in
// no snapshot of it.
func (r *resolver) nestedDatasets(ctx context.Context) {
	for _, p := range r.out.Places {
		var missing []string
		for _, nested := range p.Nested {
			if !strings.Contains(nested+"/", "/"+fs.BtrfsDir+"/") && !r.covered(ctx, nested) {
				missing = append(missing, nested)
			}
		}
		if len(missing) > 0 {
			r.warn("not covered, because they are datasets of their own below %s: %s; add those that matter to paths in [group.%s]",
				p.Paths[0], some(missing), r.group.Name)
		}
	}
}

// covered tells whether the dataset at a path is one of the group's.
func (r *resolver) covered(ctx context.Context, path string) bool {
	place, err := r.locate(ctx, path)
	if err != nil {
		return false
	}
	return slices.ContainsFunc(r.out.Places, func(p ResolvedPlace) bool { return sameDataset(p.Dataset, place.Dataset) })
}

// some lists up to three of many.
func some(names []string) string {
	const most = 3
	if len(names) <= most {
		return strings.Join(names, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(names[:most], ", "), len(names)-most)
}
