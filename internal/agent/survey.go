package agent

import (
	"context"

	"snapd/internal/workload"
)

// Survey is what a snapshot of every group would find on this host.
type Survey struct {
	NoEngine error              // why there is no Docker engine, nil when it answers
	Problems []workload.Problem // of labels and the configuration
	Groups   []SurveyedGroup
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
	for _, g := range s.groups {
		found := SurveyedGroup{Group: g}
		r, err := a.resolve(ctx, s, g)
		if err == nil {
			err = a.lookAtProcesses(ctx, s, r)
		}
		if err != nil {
			found.Err = err
		} else {
			found.Datasets, found.Why, found.Warnings, found.Notes = len(r.datasets), r.plan.Why, r.warnings, r.notes
			gravestFirst(found.Warnings)
			for _, w := range found.Warnings {
				found.Dos = append(found.Dos, whatToDoAbout(g.Name, w))
			}
		}
		out.Groups = append(out.Groups, found)
	}
	return out, nil
}
