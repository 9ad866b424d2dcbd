package agent

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"snapd/internal/advice"
	"snapd/internal/config"
	"snapd/internal/workload"
)

// scene is what an operation knows of this host: its groups and, if there is
// one, its engine.
type scene struct {
	engine     *workload.Engine // nil without one
	noEngine   error            // why there is none
	containers []workload.Container
	groups     []workload.Group
	problems   []workload.Problem
	since      time.Time           // when looking began
	looked     time.Time           // when all containers had been listed
	open       *workload.OpenFiles // what processes have open, nil before it was looked at
}

// look asks the engine and forms the groups. A host without an engine has the
// groups of its configuration.
func (a *Agent) look(ctx context.Context) (*scene, error) {
	s := &scene{}
	engine, err := a.Engine(ctx)
	switch {
	case errors.Is(err, workload.ErrNoEngine):
		s.noEngine = err
	case err != nil:
		return nil, err
	default:
		s.engine = engine
		if err := a.list(ctx, s); err != nil {
			return nil, errors.Join(err, engine.Close())
		}
		return s, nil
	}
	return s, a.list(ctx, s)
}

// list looks what runs here now and which groups that makes.
func (a *Agent) list(ctx context.Context, s *scene) (err error) {
	s.since = a.Now()
	if s.engine != nil {
		if s.containers, err = s.engine.Containers(ctx); err != nil {
			return err
		}
		if s.containers == nil {
			s.containers = []workload.Container{} // the engine says that there are none
		}
	}
	s.looked = a.Now()
	s.groups, s.problems = workload.Groups(a.Config, s.containers)
	if a.Looked != nil {
		a.Looked(a.schedulesOf(s.groups))
	}
	return nil
}

// again is the scene as it is now. It has the same engine, which the first one
// closes.
func (a *Agent) again(ctx context.Context, s *scene) (*scene, error) {
	fresh := &scene{engine: s.engine, noEngine: s.noEngine}
	return fresh, a.list(ctx, fresh)
}

// lookFor is look for the groups named, all of them when none is named; unusable
// is as pick says. The caller closes the scene.
func (a *Agent) lookFor(ctx context.Context, names []string) (s *scene, groups []workload.Group, unusable, err error) {
	if s, err = a.look(ctx); err != nil {
		return nil, nil, nil, err
	}
	if groups, unusable, err = s.pick(names); err != nil {
		return nil, nil, nil, errors.Join(err, s.close())
	}
	return s, groups, unusable, nil
}

// CheckGroupName tells whether a name may be a group's.
func CheckGroupName(name string) error { return config.CheckGroupName(name) }

// Known tells whether all of these are groups of this host that can be used. The
// engine is asked only for what the configuration does not name.
func (a *Agent) Known(ctx context.Context, names []string) error {
	if !slices.ContainsFunc(names, func(n string) bool { _, configured := a.Config.Groups[n]; return !configured }) {
		return nil
	}
	s, _, _, err := a.lookFor(ctx, names)
	if err != nil {
		return err
	}
	return s.close()
}

func (s *scene) close() error {
	if s.engine == nil {
		return nil
	}
	return s.engine.Close()
}

// find returns a group by name, or an error with the nearest right one.
func (s *scene) find(name string) (workload.Group, error) {
	g, err := s.known(name)
	return g, advice.In(advice.Usage, err)
}

func (s *scene) known(name string) (workload.Group, error) {
	g, err := workload.Find(s.groups, s.problems, name)
	if err != nil && s.noEngine != nil {
		err = fmt.Errorf("%w (%w, so groups made by labels are not known)", err, s.noEngine)
	}
	return g, err
}

// pick returns the named groups, or all of them when none is named. A name that no
// group has is an error. Groups that cannot be used keep the others from nothing:
// what is wrong with them is in unusable, and it is an error only when none of
// those named can be.
func (s *scene) pick(names []string) (groups []workload.Group, unusable, err error) {
	if len(names) == 0 {
		return s.groups, nil, nil
	}
	var faults []error
	for _, n := range names {
		g, err := s.known(n)
		switch {
		case errors.Is(err, workload.ErrNoGroup):
			return nil, nil, advice.In(advice.Usage, err)
		case err != nil:
			faults = append(faults, err)
		case !slices.ContainsFunc(groups, func(o workload.Group) bool { return o.Name == g.Name }):
			groups = append(groups, g)
		}
	}
	if len(groups) == 0 {
		return nil, nil, advice.In(advice.Usage, errors.Join(faults...))
	}
	return groups, errors.Join(faults...), nil
}
