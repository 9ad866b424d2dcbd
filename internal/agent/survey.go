package agent

import (
	"context"
	"time"

	"snapd/internal/fs"
	"snapd/internal/workload"
)

// Survey is what a snapshot of every group would find on this host.
type Survey struct {
	NoEngine error              // why there is no Docker engine, nil when it answers
	Problems []workload.Problem // of labels and the configuration
	Groups   []SurveyedGroup
	Ailments []Ailment // of the storages that the groups lie on, the gravest first
	Unknown  error     // what is not known of that
	Asked    int       // how many datasets that is about
}

// SurveyedGroup is one of its groups.
type SurveyedGroup struct {
	workload.Group
	Err      error    // why no restore point could be taken; what follows is empty then
	Datasets int      // how many a point would have
	Why      string   // what would be frozen and why
	Warnings []string // the gravest first
	Dos      []string // what to do about each of them, "" when that is not known
	Notes    []string // what users should know of paths, such as what is left out because it need not be covered
}

// Survey resolves every group as a snapshot would, and takes none.
func (a *Agent) Survey(ctx context.Context) (Survey, error) {
	s, err := a.look(ctx)
	if err != nil {
		return Survey{}, err
	}
	defer s.close() //nolint:errcheck // only read from
	out := Survey{NoEngine: s.noEngine, Problems: s.problems}
	where := byPoints(a.points(), a.Now()) // of a group that cannot be taken now
	for _, g := range s.groups {
		found := SurveyedGroup{Group: g}
		r, err := a.resolve(ctx, s, g)
		if err == nil {
			err = a.lookAtProcesses(ctx, s, r)
		}
		if err != nil {
			found.Err = err
		} else {
			where[g.Name] = r.datasets
			found.Datasets, found.Why, found.Warnings, found.Notes = len(r.datasets), r.plan.Why, r.warnings, r.notes
			gravestFirst(found.Warnings)
			for _, w := range found.Warnings {
				found.Dos = append(found.Dos, whatToDoAbout(g.Name, w))
			}
		}
		out.Groups = append(out.Groups, found)
	}
	for _, datasets := range where {
		for _, d := range datasets {
			if _, tells := a.Drivers[d.Driver].(fs.HealthTeller); tells {
				out.Asked++
			}
		}
	}
	out.Ailments, out.Unknown = a.health(ctx, where, healthLimit+time.Second)
	return out, nil
}
