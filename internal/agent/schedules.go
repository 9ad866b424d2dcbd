package agent

import (
	"context"

	"snapd/internal/workload"
)

// Schedule is when a group runs by itself.
type Schedule struct {
	Group      string
	Calendar   string // a systemd calendar expression, checked
	FromLabels bool   // not from the configuration
}

// Schedules looks which groups there are and returns those with a schedule, by
// name. A group with a problem has none: it could not run. mounts are those of
// this host that the groups lie on, as far as that is known without asking their
// storage: the unit that unmounts these has to stop after us.
func (a *Agent) Schedules(ctx context.Context) (all []Schedule, mounts []string, err error) {
	s, err := a.look(ctx)
	if err != nil {
		return nil, nil, err
	}
	defer s.close() //nolint:errcheck // only read from
	mounts, err = mountPoints(ctx, s.groups)
	return a.schedulesOf(s.groups), mounts, err
}

func (a *Agent) schedulesOf(groups []workload.Group) []Schedule {
	var out []Schedule
	for _, g := range groups {
		if g.Schedule != "" {
			out = append(out, Schedule{Group: g.Name, Calendar: string(g.Schedule), FromLabels: a.Config.Groups[g.Name].Schedule == ""})
		}
	}
	return out
}

func mountPoints(ctx context.Context, groups []workload.Group) ([]string, error) {
	var paths []string
	for _, g := range groups {
		paths = append(paths, g.Paths...)
		for _, u := range g.Mounts {
			if u.Mount.Writable && u.Mount.Source != "" {
				paths = append(paths, u.Mount.Source)
			}
		}
	}
	return workload.MountPoints(ctx, paths)
}
