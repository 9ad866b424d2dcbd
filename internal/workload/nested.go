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
			r.warn(NotCovered+"what is mounted at %s, below %s: %v", m.Point, who, err)
			continue
		}
		uncovered[m.Type] = append(uncovered[m.Type], m.Point)
	}
	for _, kind := range sortedKeys(uncovered) {
		r.warn(NotCovered+"%s, mounted below %s, because it is %s", some(uncovered[kind]), who, kindOf(kind))
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

// How warnings begin and end that others sort by.
const (
	NotCovered = "not covered: "         // begins one about what no point of the group has
	LeftOut    = "left out: "            // begins one about what a user has left out
	OfItsOwn   = " a dataset of its own" // ends one about a dataset that a user can add
)

// mostNested is how many datasets below the group's paths are named.
const mostNested = 10

// nestedDatasets says which datasets lie below the group's paths and are in no
// snapshot of it, a line each. The snapshots of other programs are no data that
// is missing, and are only counted: a host has thousands of them.
func (r *resolver) nestedDatasets(ctx context.Context) {
	var missing, foreign []string
	for _, p := range r.out.Places {
		for _, nested := range p.Nested {
			if !strings.Contains(nested+"/", "/"+fs.BtrfsDir+"/") && !r.covered(ctx, nested) {
				missing = addNew(missing, nested)
			}
		}
		foreign = addNew(foreign, p.Foreign...)
	}
	slices.Sort(missing)
	for i, path := range missing {
		if i == mostNested {
			r.warn(NotCovered+"%d more below its paths, each"+OfItsOwn, len(missing)-i)
			break
		}
		r.warn(NotCovered+"%s,"+OfItsOwn, path)
	}
	if n := len(foreign); n > 0 {
		r.note("snapshots that other programs keep below its paths, and that no point has: %d", n)
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
