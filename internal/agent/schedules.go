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
// name. A group with a problem has none: it could not run.
func (a *Agent) Schedules(ctx context.Context) ([]Schedule, error) {
	s, err := a.look(ctx)
	if err != nil {
		return nil, err
	}
	defer s.close() //nolint:errcheck // only read from
	return a.schedulesOf(s.groups), nil
}

func (a *Agent) schedulesOf(groups []workload.Group) []Schedule {
	var out []Schedule
	for _, g := range groups {
		if g.Schedule != "" {
			out = append(out, Schedule{Group: g.Name, Calendar: g.Schedule, FromLabels: a.Config.Groups[g.Name].Schedule == nil})
		}
	}
	return out
}

// MountPoints are the mounts of this host that groups lie on, as far as that is
// known without asking their storage: whoever ends us or unmounts these has to
// come after us.
func (a *Agent) MountPoints(ctx context.Context) ([]string, error) {
	s, err := a.look(ctx)
	if err != nil {
		return nil, err
	}
	defer s.close() //nolint:errcheck // only read from
	var paths []string
	for _, g := range s.groups {
		paths = append(paths, g.Paths...)
		for _, u := range g.Mounts {
			if u.Mount.Writable && u.Mount.Source != "" {
				paths = append(paths, u.Mount.Source)
			}
		}
	}
	return workload.MountPoints(paths)
}
