package agent

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"snapd/internal/point"
	"snapd/internal/ship"
)

// List returns the restore points known here and in the repositories, oldest
// first. A repository that does not answer is an ErrPartial beside what is
// known without it.
func (a *Agent) List(ctx context.Context, group string) ([]point.Point, error) {
	local := a.points()
	var faults []error
	points, answered := local, false
	for _, name := range a.repositoryNames("") {
		found, err := a.pointsIn(ctx, name)
		if err != nil {
			faults = append(faults, fmt.Errorf("repository %s: %w", name, err))
			continue
		}
		answered = true
		points = joinPoints(name, found, points)
	}
	if group != "" {
		points = slices.DeleteFunc(points, func(p point.Point) bool { return p.Group != group })
	}
	if len(faults) > 0 && (answered || len(local) > 0) {
		faults = append([]error{ErrPartial}, faults...)
	}
	return points, errors.Join(faults...)
}

// Show returns one point by what a person wrote.
func (a *Agent) Show(ctx context.Context, wanted string) (point.Point, error) {
	points, err := a.List(ctx, "")
	p, missing := match(points, wanted)
	if missing != nil {
		return p, errors.Join(missing, err)
	}
	return p, nil
}

func (a *Agent) pointsIn(ctx context.Context, name string) ([]ship.PointRecord, error) {
	repo, err := a.Open(ctx, a.Config.Repositories[name], a.Report)
	if err != nil {
		return nil, err
	}
	index, err := repo.Index(ctx)
	if err != nil {
		return nil, err
	}
	records, problems, err := repo.Points(ctx, index)
	for _, p := range problems {
		a.warn("", "repository %s: %s: %s", name, p.Object, p.Problem)
	}
	return records, err
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
// the repository, the repository is right.
func joinPoints(name string, records []ship.PointRecord, local []point.Point) []point.Point {
	byID := map[point.ID]point.Point{}
	for _, p := range local {
		p.Numbers = maps.Clone(p.Numbers)
		delete(p.Numbers, name)
		byID[p.ID] = p
	}
	for _, r := range records {
		p, known := byID[r.ID]
		if !known {
			p = pointOf(r)
		}
		if !slices.ContainsFunc(p.Shipped, func(s point.Shipped) bool { return s.Repository == name }) {
			p.Shipped = append(p.Shipped, shippedFrom(name, r)...)
		}
		if p.Numbers == nil {
			p.Numbers = map[string]int64{}
		}
		p.Numbers[name] = r.Number
		byID[r.ID] = p
	}
	return slices.SortedFunc(maps.Values(byID), byIDOrder)
}
