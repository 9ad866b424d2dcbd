package agent

import (
	"slices"
	"time"

	"snapd/internal/point"
	"snapd/internal/ship"
)

// withStates adds what one repository says of the points, and those that are
// lost there and not known here.
func withStates(name string, view *ship.View, points []point.Point, tags map[string]string) []point.Point {
	reached := damagedPoints(view)
	lost := map[point.ID]bool{}
	for _, r := range lostPoints(view) {
		lost[r.ID] = true
		if !slices.ContainsFunc(points, func(p point.Point) bool { return p.ID == r.ID }) {
			p := pointOf(r)
			if p.Group == "" {
				p.Group = tags[r.GroupTag]
			}
			points = append(points, p)
		}
	}
	slices.SortFunc(points, byIDOrder)
	for i := range points {
		p := &points[i]
		say := func(state string, so bool) {
			if so {
				p.States = append(slices.Clone(p.States), point.State{State: state, Repository: name})
			}
		}
		_, kept := view.Point(p.ID)
		say(point.Damaged, kept && len(reached[p.ID]) > 0)
		say(point.Lost, lost[p.ID])
		say(point.Pinned, kept && view.Pinned(p.ID))
		say(point.Removed, !kept && view.Dropped(p.ID))
	}
	return points
}

// withStatesHere adds what no repository need be asked for, after all that were
// asked.
func (a *Agent) withStatesHere(points []point.Point, now time.Time) []point.Point {
	for i := range points {
		p := &points[i]
		if isFuture(p.Time, now) {
			p.States = append(slices.Clone(p.States), point.State{State: point.Future})
		}
		elsewhere := slices.ContainsFunc(p.States, func(s point.State) bool { return s.State == point.Removed || s.State == point.Lost })
		if len(p.Numbers) == 0 && len(p.Dropped) == 0 && !elsewhere {
			p.States = append(slices.Clone(p.States), point.State{State: point.OnlyHere})
		}
	}
	return points
}
