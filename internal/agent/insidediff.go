package agent

import (
	"context"
	"errors"
	"fmt"
	iofs "io/fs"
	"os"
	"path"
	"slices"
	"syscall"

	"snapd/internal/advice"
	"snapd/internal/fs"
	"snapd/internal/inside"
	"snapd/internal/point"
)

// Now stands for what is there now, in place of a point.
const Now = "now"

// DiffInside tells what differs between a place in a point and the same place in
// another one, or now: of each dataset, in the order of names. Paths are those of the
// host. With text it tells what changed in text files.
func (a *Agent) DiffInside(ctx context.Context, where, to string, text bool, tell func(inside.Difference) error) error {
	s, err := a.findInside(ctx, where)
	if err != nil {
		return err
	}
	var other *point.Point
	if to != Now {
		p, err := a.pointHere(ctx, to)
		if err != nil {
			return err
		}
		other = &p
	}
	spots := []spotInside{s}
	if s.dataset == nil {
		spots = nil
		for i := range s.point.Datasets {
			spots = append(spots, spotInside{s.point, &s.point.Datasets[i], "."})
		}
	}
	for _, s := range spots {
		if err := a.diffOne(ctx, s, other, text, tell); err != nil {
			return err
		}
	}
	return nil
}

func (a *Agent) diffOne(ctx context.Context, s spotInside, other *point.Point, text bool, tell func(inside.Difference) error) (err error) {
	recent, done, err := a.otherTree(ctx, s, other)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, done()) }()
	top := topOf(s.point, s.dataset)
	return a.within(ctx, s, func(t inside.Tree) error {
		return inside.Compare(ctx, t, recent, s.path, text, func(d inside.Difference) error {
			d.Path = path.Join(top, d.Path)
			return tell(d)
		})
	})
}

// otherTree opens the same dataset in another point, or as it is now.
func (a *Agent) otherTree(ctx context.Context, s spotInside, other *point.Point) (t inside.Tree, done func() error, err error) {
	if other == nil {
		return a.treeNow(ctx, s)
	}
	i := slices.IndexFunc(other.Datasets, func(d point.Dataset) bool { return d.Origin == s.dataset.Origin })
	if i < 0 {
		return t, nil, advice.With(fmt.Errorf("point %s has no dataset %s, or another one of that name", other.ID, s.dataset.Dataset), "name a path in a dataset that both have")
	}
	o, err := a.openInside(ctx, *other, &other.Datasets[i])
	if err != nil {
		return t, nil, err
	}
	return treeOf(o), o.Close, nil
}

// treeNow opens a dataset where it lies now. What is mounted in it is not in it.
func (a *Agent) treeNow(ctx context.Context, s spotInside) (t inside.Tree, done func() error, err error) {
	top := topOf(s.point, s.dataset)
	elsewhere := func(err error) (inside.Tree, func() error, error) {
		return t, nil, advice.With(fmt.Errorf("%s is not at %s now: %w", s.dataset.Dataset, top, err), "compare the point with another one")
	}
	driver, err := a.driver(s.dataset.Driver)
	if err != nil {
		return t, nil, err
	}
	place, err := driver.Locate(ctx, top)
	switch {
	case err != nil:
		return elsewhere(err)
	case place.Dataset.GUID != s.dataset.Origin || place.Path != ".":
		return elsewhere(fmt.Errorf("there is %s: %w", place.Dataset.Name, fs.ErrNotFound))
	}
	root, err := os.OpenRoot(top)
	if err != nil {
		return elsewhere(err)
	}
	info, err := root.Lstat(".")
	if err != nil {
		return t, nil, errors.Join(err, root.Close())
	}
	device := deviceOf(info)
	return inside.Tree{Root: root, Absent: func(e iofs.FileInfo) bool { return deviceOf(e) != device }}, root.Close, nil
}

func deviceOf(info iofs.FileInfo) uint64 {
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		return st.Dev
	}
	return 0
}
