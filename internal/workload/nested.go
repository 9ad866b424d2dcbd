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
		err := r.addNested(ctx, m, user)
		if err == nil {
			continue
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

// addNested adds the dataset that is mounted below something of the group.
func (r *resolver) addNested(ctx context.Context, m proc.Mount, user string) error {
	path, err := r.names.path(ctx, spotOf(m), m.Point)
	if err != nil {
		return err
	}
	place, err := r.locate(ctx, path)
	if err != nil {
		return err
	}
	at, err := r.names.look(ctx, path)
	if err == nil {
		r.own(at, place.Dataset, path)
		r.keep(place, path, user)
	}
	return err
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
