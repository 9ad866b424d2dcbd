package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"

	"snapd/internal/advice"
	"snapd/internal/point"
	"snapd/internal/ship"
)

// VerifyOptions say what to check.
type VerifyOptions struct {
	Points     []string // as people write them; none means all
	Repository string   // "" means all that are configured
	Deep       bool     // also unseal, decompress and walk the streams: needs an identity
	// Check walks a stream of a format, such as btrfs-2, without storage.
	Check func(format string, r io.Reader) error
}

// Verified is what was checked and what is wrong.
type Verified struct {
	Checked  Checked   `json:"checked"`
	Problems []Problem `json:"problems"`
}

// Checked counts what was read.
type Checked struct {
	Points   int   `json:"points"`
	Streams  int   `json:"streams"`
	Segments int   `json:"segments"`
	Bytes    int64 `json:"bytes"`
}

// Problem names a damaged object and the points that need it.
type Problem struct {
	Repository string     `json:"repository"`
	Object     string     `json:"object"`
	Problem    string     `json:"problem"`
	Points     []point.ID `json:"points"`
}

// Verify reads what lies in the repositories and checks it against what was
// signed. It is advice.Damaged when something is wrong.
func (a *Agent) Verify(ctx context.Context, o VerifyOptions) (Verified, error) {
	out := Verified{Problems: []Problem{}}
	names := a.repositoryNames(o.Repository)
	if len(names) == 0 {
		return out, advice.In(NoRepository, advice.Usagef("no repository is configured, so there is nothing to verify"))
	}
	var faults, missing []error
	for _, name := range names {
		err := a.verifyIn(ctx, name, o, &out)
		switch {
		case errors.Is(err, ErrNotThere):
			missing = append(missing, fmt.Errorf("repository %s: %w", name, err))
		case err != nil:
			faults = append(faults, fmt.Errorf("verify repository %s: %w", name, err))
		}
	}
	if len(missing) > 0 && (len(o.Points) > 1 || len(missing) == len(names)) {
		faults = append(faults, missing...) // one point need not lie in all of them
	}
	if len(out.Problems) > 0 {
		faults = append(faults, advice.In(advice.Damaged, fmt.Errorf("%d of the objects read are not what was shipped", len(out.Problems))))
	}
	return out, errors.Join(faults...)
}

func (a *Agent) verifyIn(ctx context.Context, name string, o VerifyOptions, out *Verified) error {
	points, err := a.verifiable(ctx, name, o.Points)
	if err != nil {
		return err
	}
	var ids []point.ID
	if len(o.Points) > 0 {
		for _, p := range points {
			ids = append(ids, p.ID)
		}
	}
	repo, err := a.Open(ctx, a.Config.Repositories[name], a.Report)
	if err != nil {
		return err
	}
	checked, problems, err := repo.Verify(ctx, ship.VerifyOptions{Points: ids, Deep: o.Deep, Check: o.Check}, func(p ship.Progress) {
		a.Report(Event{Kind: Progress, Text: "verify " + name, Bytes: p.StoredBytes})
	})
	out.Checked.Points += checked.Points
	out.Checked.Streams += checked.Streams
	out.Checked.Segments += checked.Segments
	out.Checked.Bytes += checked.Bytes
	for _, p := range problems {
		out.Problems = append(out.Problems, Problem{Repository: name, Object: p.Object, Problem: p.Problem, Points: p.Points})
	}
	if err == nil {
		err = a.rememberVerified(ctx, points, problems)
	}
	return err
}

// verifiable are the wanted points, of those that can be read in a repository.
func (a *Agent) verifiable(ctx context.Context, name string, wanted []string) ([]point.Point, error) {
	points, err := a.withRepository(ctx, name, a.points())
	if err != nil {
		return nil, err
	}
	points = slices.DeleteFunc(points, func(p point.Point) bool { return !p.InRepository(name) })
	if len(wanted) == 0 {
		return points, nil
	}
	var out []point.Point
	for _, w := range wanted {
		p, err := match(points, w)
		if err != nil {
			return nil, err
		}
		out = append(out, p)
	}
	return out, nil
}

// rememberVerified writes down, for status, when a point was last found whole.
func (a *Agent) rememberVerified(ctx context.Context, points []point.Point, problems []ship.Problem) error {
	if a.OnlyRepositories {
		return nil
	}
	damaged := map[point.ID]bool{}
	for _, p := range problems {
		for _, id := range p.Points {
			damaged[id] = true
		}
	}
	now := a.Now().UTC()
	for _, p := range points {
		if damaged[p.ID] {
			continue
		}
		if err := a.rememberIfKnown(ctx, p.ID, func(q *point.Point) { q.Verified = &now }); err != nil {
			return err
		}
	}
	return nil
}
