package agent

import (
	"context"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"

	"snapd/internal/advice"
	"snapd/internal/fs"
	"snapd/internal/inside"
	"snapd/internal/point"
	"snapd/internal/proc"
)

// spotInside is a place in a point that a user named.
type spotInside struct {
	point   point.Point
	dataset *point.Dataset // nil: the point as a whole
	path    string         // in the dataset, "." for all of it
}

// splitInside splits POINT[:PATH]. The point may be latest:GROUP, and a path may
// have colons: what follows "latest:" is a group unless a slash stands in it.
func splitInside(where string) (wanted, path string, named bool) {
	wanted, rest, named := strings.Cut(where, ":")
	if wanted != "latest" || !named {
		return wanted, rest, named
	}
	group, path, more := strings.Cut(rest, ":")
	switch {
	case strings.Contains(group, "/"):
		return wanted, rest, true
	case group != "":
		wanted += ":" + group
	}
	return wanted, path, more
}

// findInside finds the point that a user named, of those whose snapshots this host
// took, and the place in it.
func (a *Agent) findInside(ctx context.Context, where string) (spotInside, error) {
	wanted, name, named := splitInside(where)
	p, err := a.pointHere(ctx, wanted)
	if err != nil {
		return spotInside{}, err
	}
	s := spotInside{point: p}
	if !named || name == "" {
		return s, nil
	}
	if s.dataset, s.path = a.placeInside(ctx, p, name); s.dataset == nil {
		return s, advice.With(fmt.Errorf("%s is not in point %s", name, p.ID), "name a path that lies in one of its datasets: %s", strings.Join(tops(p), ", "))
	}
	return s, nil
}

// pointHere finds a point in the local record. One that a repository alone has is
// said to be there.
func (a *Agent) pointHere(ctx context.Context, wanted string) (point.Point, error) {
	p, missing := matchIn(a.points(), wanted, nil, a.Now())
	if missing == nil || !errors.Is(missing, ErrNotThere) {
		return p, missing
	}
	points, views, err := a.everywhere(ctx)
	if p, there := matchIn(points, wanted, views, a.Now()); there == nil {
		return p, notHere(p, errors.New("only a repository has it"))
	}
	return p, errors.Join(missing, err)
}

// notHere says that a point cannot be looked into from this host's snapshots.
func notHere(p point.Point, why error) error {
	return advice.In(NotHere, fmt.Errorf("point %s cannot be looked into here: %w", p.ID, why))
}

// tops are the paths by which users name the datasets of a point.
func tops(p point.Point) []string {
	out := make([]string, 0, len(p.Datasets))
	for i := range p.Datasets {
		out = append(out, topOf(p, &p.Datasets[i]))
	}
	return out
}

// topOf is where a dataset's root lies on the host, or its name where that is not
// known.
func topOf(p point.Point, d *point.Dataset) string {
	for _, w := range waysInto(p, d) {
		if w.path == "." {
			return w.host
		}
	}
	return d.Dataset
}

// way says that what the host has at a path is at another one in a dataset.
type way struct{ host, path string }

// waysInto are the paths of the host that are known to lie in a dataset.
func waysInto(p point.Point, d *point.Dataset) []way {
	var out []way
	if path.IsAbs(d.Dataset) { // Btrfs
		out = append(out, way{path.Clean(d.Dataset), "."})
	}
	for _, i := range p.Items {
		if i.Origin != d.Origin || !path.IsAbs(i.Source) {
			continue
		}
		if i.Kind == point.ItemPath && path.IsAbs(i.Target) { // as the user wrote it
			out = append(out, way{path.Clean(i.Target), path.Clean(i.Path)})
		}
		source, inner := path.Clean(i.Source), path.Clean(i.Path)
		if root, whole := strings.CutSuffix(source, "/"+inner); whole && inner != "." && !path.IsAbs(d.Dataset) {
			source, inner = path.Join("/", root), "."
		}
		if w := (way{source, inner}); !slices.Contains(out, w) {
			out = append(out, w)
		}
	}
	return out
}

// placeInside finds a path of the host in the datasets of a point, by what the point
// itself says: the host may look otherwise now. A path that is not absolute is of the
// only dataset, or begins with the name of one.
func (a *Agent) placeInside(ctx context.Context, p point.Point, name string) (found *point.Dataset, inner string) {
	if !path.IsAbs(name) {
		for i := range p.Datasets {
			if rest, below := proc.CutDir(path.Clean(name), p.Datasets[i].Dataset); below {
				return &p.Datasets[i], cleanInside(rest)
			}
		}
		if len(p.Datasets) == 1 {
			return &p.Datasets[0], cleanInside(name)
		}
		return nil, ""
	}
	name = path.Clean(name)
	longest := -1
	for i := range p.Datasets {
		d := &p.Datasets[i]
		for _, w := range waysInto(p, d) {
			if rest, below := proc.CutDir(name, w.host); below && len(w.host) > longest {
				found, inner, longest = d, path.Join(w.path, rest), len(w.host)
			}
		}
	}
	if found != nil {
		return found, inner
	}
	return a.placeNow(ctx, p, name)
}

// placeNow asks the storages where a path lies now, for points of which the record
// says nothing of that: those of an older snapd.
func (a *Agent) placeNow(ctx context.Context, p point.Point, name string) (*point.Dataset, string) {
	for i := range p.Datasets {
		d := &p.Datasets[i]
		driver, err := a.driver(d.Driver)
		if err != nil {
			continue
		}
		for at := name; ; at = path.Dir(at) {
			place, err := driver.Locate(ctx, at)
			if err == nil && place.Dataset.GUID == d.Origin {
				rest, _ := proc.CutDir(name, at)
				return d, path.Join(place.Path, rest)
			}
			if at == "/" || err == nil || !errors.Is(err, fs.ErrNotFound) {
				break
			}
		}
	}
	return nil, ""
}

// cleanInside is a path below a root, "." for the root.
func cleanInside(name string) string {
	if name = strings.TrimPrefix(path.Clean("/"+name), "/"); name == "" {
		return "."
	}
	return name
}

// openInside opens the snapshot of a dataset of a point.
func (a *Agent) openInside(ctx context.Context, p point.Point, d *point.Dataset) (fs.Opened, error) {
	driver, err := a.driver(d.Driver)
	if err != nil {
		return nil, err
	}
	opener, can := driver.(fs.Opener)
	if !can {
		return nil, notHere(p, fmt.Errorf("snapshots on %s cannot be opened", d.Driver))
	}
	o, err := opener.Open(ctx, fs.Snapshot{Dataset: datasetOf(*d), Name: d.Snapshot, GUID: d.GUID})
	if errors.Is(err, fs.ErrNotFound) || errors.Is(err, fs.ErrNotMine) {
		return nil, notHere(p, err)
	}
	return o, err
}

func treeOf(o fs.Opened) inside.Tree { return inside.Tree{Root: o.Root(), Absent: o.Absent} }

// within opens the dataset of a place, and calls look with its tree.
func (a *Agent) within(ctx context.Context, s spotInside, look func(inside.Tree) error) error {
	o, err := a.openInside(ctx, s.point, s.dataset)
	if err != nil {
		return err
	}
	return errors.Join(s.explain(look(treeOf(o))), o.Close())
}

// explain says of a path that is not in a point what of it is.
func (s spotInside) explain(err error) error {
	missing, ok := errors.AsType[*inside.Missing](err)
	if !ok {
		return err
	}
	top := topOf(s.point, s.dataset)
	why := "there is nothing"
	if missing.Why != "" {
		why = missing.Why
	}
	return advice.With(fmt.Errorf("%s is not in point %s: %s", path.Join(top, s.path), s.point.ID, why), "see what is in the nearest folder that is there: snapd ls %s:%s", s.point.ID, path.Join(top, missing.Nearest))
}

// needPath refuses a place that is a whole point of several datasets.
func (s *spotInside) needPath() error {
	if s.dataset != nil {
		return nil
	}
	if len(s.point.Datasets) != 1 {
		return advice.With(advice.Usagef("point %s has %d datasets, and no path is named", s.point.ID, len(s.point.Datasets)),
			"name one behind the point: %s", strings.Join(prefixed(string(s.point.ID)+":", tops(s.point)), ", "))
	}
	s.dataset, s.path = &s.point.Datasets[0], "."
	return nil
}

func prefixed(prefix string, words []string) []string {
	out := make([]string, len(words))
	for i, w := range words {
		out[i] = prefix + w
	}
	return out
}
