package agent

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"slices"

	"snapd/internal/advice"
	"snapd/internal/point"
)

// Steps are what one run does with its groups, in this order.
type Steps struct {
	Snapshot bool `json:"snapshot,omitempty"`
	Ship     bool `json:"ship,omitempty"`
	Prune    bool `json:"prune,omitempty"`

	Full bool `json:"full,omitempty"` // of Ship: the next stream of each dataset builds on nothing
}

// Any tells whether there is anything to do.
func (s Steps) Any() bool { return s.Snapshot || s.Ship || s.Prune }

// Done is what a run achieved.
type Done struct {
	Points []point.Point `json:"points"` // taken or shipped, with what is known after the last step
	Pruned Pruned        `json:"pruned"`
	// Left are the steps that a cancelled run did not finish, when calling them
	// again makes it whole: they go on where they stopped. A snapshot is never
	// among them, because no user wants a second one.
	Left Steps `json:"left"`
}

// Do takes one restore point of each group, ships what the repositories lack,
// and prunes, as far as the steps say so. A step that fails does not keep the
// next one back, unless the call itself was wrong. An error beside points is an
// advice.Partial.
func (a *Agent) Do(ctx context.Context, groups []string, steps Steps) (Done, error) {
	out := Done{Pruned: Pruned{Keep: []Verdict{}, Drop: []Verdict{}}}
	repos := a.repositories()
	defer repos.close()
	var taken, shipped []point.Point
	var faults []error
	if steps.Snapshot {
		var err error
		taken, err = a.snapshotInTurn(ctx, groups)
		if err != nil && len(taken) == 0 && (errors.Is(err, advice.Usage) || !steps.Prune) {
			return out, err // the same would be wrong with the rest, or nothing came of it
		}
		if err == nil && a.Taken != nil {
			a.Taken()
		}
		faults = append(faults, err)
	}
	if steps.Ship {
		var err error
		if ctx.Err() == nil {
			s := &shipping{Agent: a, repos: repos, passing: steps.Snapshot || steps.Prune || len(groups) == 0, told: steps.Snapshot, full: steps.Full}
			shipped, err = s.groups(ctx, groups)
		}
		faults = append(faults, err)
	}
	if steps.Prune && ctx.Err() == nil {
		var err error
		out.Pruned, err = a.prune(ctx, repos, PruneOptions{Groups: groups, passing: steps.Snapshot})
		faults = append(faults, err)
	}
	if ctx.Err() != nil {
		faults = append(faults, ctx.Err())
		if !steps.Snapshot || faults[0] == nil {
			out.Left = Steps{Ship: steps.Ship, Prune: steps.Prune, Full: steps.Full} // a ship that was done has nothing to do
		}
	}
	out.Points = newestFacts(taken, shipped)
	return out, partly(out.Points, errors.Join(faults...))
}

func (a *Agent) snapshotInTurn(ctx context.Context, groups []string) ([]point.Point, error) {
	if a.Turn != nil {
		done, err := a.Turn(ctx)
		if err != nil {
			return nil, err
		}
		defer done()
	}
	return a.Snapshot(ctx, groups)
}

// newestFacts joins the points taken and those shipped; of one that is both,
// what is known after the ship.
func newestFacts(taken, shipped []point.Point) []point.Point {
	byID := map[point.ID]point.Point{}
	for _, p := range slices.Concat(taken, shipped) {
		byID[p.ID] = p
	}
	return slices.SortedFunc(maps.Values(byID), func(a, b point.Point) int { return cmp.Compare(a.ID, b.ID) })
}

// partly marks an error beside which something was achieved. Damage that is left
// is told as such, whatever else was achieved.
func partly(done []point.Point, err error) error {
	if err == nil || len(done) == 0 || errors.Is(err, advice.Partial) || errors.Is(err, advice.Damaged) {
		return err
	}
	return advice.In(advice.Partial, err)
}
