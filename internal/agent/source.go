package agent

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"snapd/internal/advice"
	"snapd/internal/point"
	"snapd/internal/ship"
)

// source is where a restore reads from: a repository, or the host's own
// snapshots.
type source struct {
	point  point.Point
	beside []point.Point    // the others that are at the same place, oldest first
	repo   *ship.Repository // nil: local
	view   *ship.View
	ids    map[string]point.ID // dataset guid to stream
}

// source finds a point by what the user wrote, and where to read it from.
func (a *Agent) source(ctx context.Context, wanted, repository string) (*source, error) {
	local := a.points()
	if repository == Local {
		p, err := matchIn(local, wanted, nil, a.Now())
		if err != nil {
			return nil, err
		}
		return &source{point: p, beside: local}, nil
	}
	var faults []error
	var best *source
	for _, name := range a.repositoryNames(repository) {
		src, err := a.sourceIn(ctx, name, wanted, local)
		if err != nil {
			faults = append(faults, err)
			continue
		}
		if best == nil || newestOf([]point.Point{best.point, src.point}, nil, a.Now()).ID != best.point.ID {
			best = src // latest means that of all repositories
		}
		if !isLatest(wanted) {
			break
		}
	}
	if best != nil {
		a.tellNewer(best.point, wanted, local, faults)
		return best, nil
	}
	if repository == "" { // no repository has it, but perhaps this host does
		if p, err := matchIn(local, wanted, nil, a.Now()); err == nil && len(p.Numbers) == 0 {
			a.warn(p.Group, "point %s lies in no repository; it is restored from this host's own snapshots", p.ID)
			return &source{point: p, beside: local}, nil
		}
	}
	if len(faults) == 0 {
		if repository != "" {
			return nil, a.noRepository(repository)
		}
		_, err := matchIn(local, wanted, nil, a.Now())
		return nil, err
	}
	err := errors.Join(faults...)
	if _, here := matchIn(local, wanted, nil, a.Now()); here == nil {
		err = advice.In(SnapshotsHere, err)
	}
	return nil, err
}

// tellNewer warns when what was asked for as the latest may not be that.
func (a *Agent) tellNewer(p point.Point, wanted string, local []point.Point, faults []error) {
	if !isLatest(wanted) {
		return
	}
	for _, err := range faults {
		if !errors.Is(err, ErrNotThere) {
			a.warnOfError("", fmt.Errorf("%w; it may have a newer point than %s", err, p.ID))
		}
	}
	if here, err := matchIn(local, wanted, nil, a.Now()); err == nil && here.Time.After(p.Time) {
		a.warnOfError(here.Group, advice.In(SnapshotsHere, fmt.Errorf("point %s is newer than %s and not shipped yet", here.ID, p.ID)))
	}
}

func isLatest(wanted string) bool { return wanted == "latest" || strings.HasPrefix(wanted, "latest:") }

func (a *Agent) sourceIn(ctx context.Context, name, wanted string, local []point.Point) (*source, error) {
	repo, view, cache, err := a.openToRead(ctx, name)
	if err == nil {
		err = cache.Close()
	}
	if err != nil {
		return nil, fmt.Errorf("repository %s: %w", name, err)
	}
	a.warnOf(name, view.Problems)
	points := joinPoints(name, view.Points, local, a.tags(repo, local, nil))
	points = slices.DeleteFunc(points, func(p point.Point) bool { return !p.InRepository(name) })
	p, err := matchIn(points, wanted, map[string]*ship.View{name: view}, a.Now())
	if err != nil {
		return nil, fmt.Errorf("repository %s: %w", name, err)
	}
	src := &source{point: p, beside: points, repo: repo, view: view, ids: map[string]point.ID{}}
	for _, r := range view.Points {
		if r.ID != p.ID {
			continue
		}
		for _, s := range r.Streams {
			src.ids[s.GUID] = s.Stream
		}
	}
	return src, nil
}

// match finds the one point that a person means, of points that only this host
// knows.
func match(points []point.Point, wanted string) (point.Point, error) {
	return matchIn(points, wanted, nil, time.Time{})
}

// matchIn finds the one point that a person means. views are those of the
// repositories that the points were read from.
func matchIn(points []point.Point, wanted string, views map[string]*ship.View, now time.Time) (point.Point, error) {
	latest := isLatest(wanted)
	_, group, _ := strings.Cut(wanted, ":")
	var found []point.Point
	for _, p := range points {
		if latest && (group == "" || p.Group == group) || !latest && wanted != "" && strings.HasPrefix(string(p.ID), wanted) {
			found = append(found, p)
		}
	}
	switch {
	case len(found) == 0 && group != "" && slices.ContainsFunc(points, func(p point.Point) bool { return p.Group == "" }):
		return point.Point{}, fmt.Errorf("%q: %w of those whose group can be read: %w for the others", wanted, ErrNotThere, ship.ErrNoIdentity)
	case len(found) == 0:
		return point.Point{}, fmt.Errorf("%q: %w", wanted, ErrNotThere)
	case latest:
		return newestOf(found, views, now), nil
	case len(found) > 1:
		return point.Point{}, advice.With(advice.Usagef("%q begins the ids of %d restore points", wanted, len(found)), "write more of the id")
	}
	return found[0], nil
}

// InFuture tells whether a point says that it was taken later than now: a clock
// was wrong. A zero now is later than anything.
func InFuture(p point.Point, now time.Time) bool { return !now.IsZero() && p.Time.After(now) }

// newestOf is the newest of some points: in a repository by the order in which
// they were put, whatever clocks said, and of those that lie in none by their
// ids. One of the future is it only when there is no other.
func newestOf(points []point.Point, views map[string]*ship.View, now time.Time) point.Point {
	if past := slices.DeleteFunc(slices.Clone(points), func(p point.Point) bool { return InFuture(p, now) }); len(past) > 0 {
		points = past
	}
	var best []point.Point
	rest := points
	for _, view := range views {
		var there []point.Point
		for _, p := range points {
			if listed(p, view) {
				there = append(there, p)
			}
		}
		rest = slices.DeleteFunc(slices.Clone(rest), func(p point.Point) bool { return listed(p, view) })
		if len(there) > 0 {
			best = append(best, slices.MaxFunc(there, func(a, b point.Point) int { return cmp.Compare(view.Order(a.ID), view.Order(b.ID)) }))
		}
	}
	return slices.MaxFunc(slices.Concat(best, rest), byIDOrder)
}
