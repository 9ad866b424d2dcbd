package agent

import (
	"context"
	"errors"
	"slices"

	"snapd/internal/config"
	"snapd/internal/point"
	"snapd/internal/workload"
)

// lookForKept is lookFor for what asks no container: shipping and pruning
// restore points that are there. A group whose containers are gone or cannot be
// looked up, or of which only points are left, is found too, as the
// configuration, or none, has it. pointsAlone includes groups that only points
// make now; unusable is as pick says.
func (a *Agent) lookForKept(ctx context.Context, names []string, pointsAlone bool) (s *scene, groups []workload.Group, unusable, err error) {
	if s, err = a.look(ctx); err != nil {
		if ctx.Err() != nil {
			return nil, nil, nil, err
		}
		// An engine that does not answer keeps no point from being shipped.
		a.warnOfError("", err)
		s = &scene{noEngine: err}
		s.groups, s.problems = workload.Groups(a.Config, nil)
	}
	a.addKept(s, pointsAlone)
	if groups, unusable, err = s.pick(names); err != nil {
		return nil, nil, nil, errors.Join(err, s.close())
	}
	return s, groups, unusable, nil
}

// addKept adds the groups that have points here, and are not whole now.
func (a *Agent) addKept(s *scene, pointsAlone bool) {
	for _, p := range a.points() {
		if slices.ContainsFunc(s.groups, func(g workload.Group) bool { return g.Name == p.Group }) {
			continue
		}
		conf, configured := a.Config.Groups[p.Group]
		switch {
		case configured:
			s.groups = append(s.groups, workload.Group{Group: a.Config.Group(p.Group, conf)})
		case pointsAlone && slices.ContainsFunc(a.Config.Group(p.Group, config.Settings{}).Repositories, p.Awaits):
			s.groups = append(s.groups, workload.Group{Group: a.Config.Group(p.Group, config.Settings{})})
		}
	}
}

// keptTimes fills in what the points of a group say when nothing else does.
func keptTimes(st *GroupStatus, points []point.Point, repositories []string) {
	for _, p := range points {
		if p.Group != st.Group {
			continue
		}
		st.NewestLocal = &p.Time
		if len(p.Numbers) > 0 && !slices.ContainsFunc(repositories, func(r string) bool { return !p.InRepository(r) }) {
			st.NewestShipped = &p.Time
		}
		if p.Verified != nil {
			st.NewestVerified = &p.Time
		}
	}
}
