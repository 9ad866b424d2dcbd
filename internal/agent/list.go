package agent

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"

	"snapd/internal/advice"
	"snapd/internal/point"
	"snapd/internal/ship"
	"snapd/internal/workload"
)

// List returns the restore points known here and in the repositories, oldest
// first. A repository that does not answer is advice.Partial beside what is
// known without it.
func (a *Agent) List(ctx context.Context, group string) ([]point.Point, error) {
	points, _, err := a.everywhere(ctx)
	if group != "" {
		hidden := slices.ContainsFunc(points, func(p point.Point) bool { return p.Group == "" })
		if hidden {
			a.warnOfError("", fmt.Errorf("points whose group is encrypted are left out: %w", ship.ErrNoIdentity))
		}
		points = slices.DeleteFunc(points, func(p point.Point) bool { return p.Group != group })
	}
	for i := range points {
		points[i].Items = nil // Show has them: a list of thousands is long without
	}
	return a.withChanges(withStatesHere(points, a.Now())), err
}

// everywhere are all points, and the views of the repositories that answered.
func (a *Agent) everywhere(ctx context.Context) ([]point.Point, map[string]*ship.View, error) {
	// The local record is read while the first repository answers: with ten
	// thousand points either takes a while.
	read := make(chan []point.Point, 1)
	go func() { read <- a.points() }()
	record := sync.OnceValue(func() []point.Point { return <-read })
	var faults []error
	views := map[string]*ship.View{}
	points := record
	for _, name := range a.repositoryNames("") {
		joined, view, err := a.joined(ctx, name, points)
		if err != nil {
			faults = append(faults, fmt.Errorf("repository %s: %w", name, err))
			continue
		}
		points, views[name] = func() []point.Point { return joined }, view
	}
	err := errors.Join(faults...)
	if len(views) > 0 || len(record()) > 0 {
		err = advice.In(advice.Partial, err)
	}
	return points(), views, err
}

// Show returns one point by what a person wrote.
func (a *Agent) Show(ctx context.Context, wanted string) (point.Point, error) {
	points, views, err := a.everywhere(ctx)
	p, missing := matchIn(points, wanted, views, a.Now())
	if missing != nil {
		return p, errors.Join(missing, err)
	}
	if err != nil {
		a.warnOfError("", err) // the point is known all the same
	}
	return a.withChanges([]point.Point{p})[0], nil
}

// joined adds the points of one repository to those that are known.
func (a *Agent) joined(ctx context.Context, name string, known func() []point.Point) ([]point.Point, *ship.View, error) {
	repo, view, cache, err := a.openToRead(ctx, name)
	if err != nil {
		return nil, nil, err
	}
	points := known()
	a.warnOf(name, view.Problems)
	tags := a.tags(repo, points, nil)
	return withStates(name, view, joinPoints(name, view.Points, points, tags), tags), view, cache.Close()
}

// repositoryNames is the one named, or all that are configured.
func (a *Agent) repositoryNames(only string) []string {
	if only == "" {
		return slices.Sorted(maps.Keys(a.Config.Repositories))
	}
	if _, known := a.Config.Repositories[only]; known {
		return []string{only}
	}
	return nil
}

// joinPoints adds what a repository knows to what this host knows. Of a point
// that both know, the local record says more; where its numbers disagree with
// the repository, the repository is right. tags give encrypted groups their names.
func joinPoints(name string, records []ship.PointRecord, local []point.Point, tags map[string]string) []point.Point {
	points := make([]point.Point, 0, max(len(local), len(records)))
	at := make(map[point.ID]int, cap(points))
	add := func(p point.Point) int {
		points = append(points, p)
		at[p.ID] = len(points) - 1
		return len(points) - 1
	}
	for _, p := range local {
		p.Numbers = maps.Clone(p.Numbers)
		delete(p.Numbers, name)
		add(p)
	}
	for _, r := range records {
		i, known := at[r.ID]
		if !known {
			i = add(pointOf(r))
		}
		p := &points[i]
		if p.Group == "" {
			p.Group = tags[r.GroupTag]
		}
		p.Shipped = slices.Clone(p.Shipped)
		for _, s := range shippedFrom(name, r, p.Datasets) {
			if !slices.ContainsFunc(p.Shipped, func(o point.Shipped) bool { return o.Repository == name && o.Stream == s.Stream }) {
				p.Arrive(s)
			}
		}
		if p.Numbers == nil {
			p.Numbers = map[string]int64{}
		}
		p.Numbers[name] = r.Number
	}
	slices.SortFunc(points, byIDOrder)
	return points
}

// tags are the names behind the tags of a repository's points, of all groups
// that this host knows.
func (a *Agent) tags(repo *ship.Repository, local []point.Point, groups []workload.Group) map[string]string {
	out := map[string]string{}
	done := map[string]bool{}
	add := func(name string) {
		if done[name] {
			return // of ten thousand points
		}
		done[name] = true
		if tag := repo.GroupTag(name); tag != "" {
			out[tag] = name
		}
	}
	for name := range a.Config.Groups {
		add(name)
	}
	for _, p := range local {
		add(p.Group)
	}
	for _, g := range groups {
		add(g.Name)
	}
	return out
}
