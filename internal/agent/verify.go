package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"snapd/internal/advice"
	"snapd/internal/point"
	"snapd/internal/ship"
)

// VerifyOptions say what to check.
type VerifyOptions struct {
	Points     []string // as people write them; none means all
	Repository string   // "" means all that are configured
	Deep       bool     // also decrypt, decompress and walk the streams: needs an identity
	// Check walks a stream of a format, such as btrfs-2, without storage.
	Check func(format string, r io.Reader) error
}

// Verified is what was checked and what is wrong.
type Verified struct {
	Checked  Checked   `json:"checked"`
	Problems []Problem `json:"problems"`
	Orphans  []Orphans `json:"orphans"`
	Notes    []string  `json:"notes"` // said to people, no damage: what was found whole again, what a listing lacked

	do []string // what can be done about the problems, by repository
}

// Orphans are objects in a repository that belong to no point and to no upload
// that is alive.
type Orphans struct {
	Repository string   `json:"repository"`
	Objects    int      `json:"objects"`
	Bytes      int64    `json:"bytes"`
	Examples   []string `json:"examples"` // a few keys
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
	out := Verified{Problems: []Problem{}, Orphans: []Orphans{}, Notes: []string{}}
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
		err := advice.In(advice.Damaged, fmt.Errorf("%s found: not everything there is what was shipped", plural(len(out.Problems), "problem was", "problems were")))
		if len(out.do) > 0 {
			err = advice.With(err, "%s; and find out at the repository why the objects changed", strings.Join(out.do, "; "))
		}
		faults = append(faults, err)
	}
	return out, errors.Join(faults...)
}

func (a *Agent) verifyIn(ctx context.Context, name string, o VerifyOptions, out *Verified) error {
	repo, view, cache, err := a.openView(ctx, name, ship.Whole)
	if err != nil {
		return err
	}
	defer cache.Close() //nolint:errcheck // what it could not write is read again
	points, err := a.verifiable(name, repo, view, o.Points)
	if err != nil {
		return err
	}
	all := make([]point.ID, len(points))
	for i, p := range points {
		all[i] = p.ID
	}
	var ids []point.ID
	if len(o.Points) > 0 {
		ids = all
	}
	// Verify reads the repository for itself: of a large one this look would take
	// as much memory again.
	before := view.Problems
	view, points = nil, nil //nolint:ineffassign,wastedassign // so that they can be collected
	v, problems, err := repo.Verify(ctx, ship.VerifyOptions{Points: ids, Deep: o.Deep, Check: o.Check}, func(p ship.Progress) {
		a.Report(Event{Kind: Progress, Text: "verify " + name, Bytes: p.StoredBytes})
	})
	if len(ids) == 0 {
		problems = withMemory(problems, before)
	}
	out.add(name, v, problems)
	if ctx.Err() != nil {
		return err
	}
	a.noteSuspects(name, cache, problems)
	a.noteLeases(name, repo.ID, problems)
	a.noteFindings(ctx, name, repo, cache, v, out)
	if err == nil && len(ids) == 0 {
		a.changeFound(name, repo.ID, func(f *found) {
			now := a.Now().UTC()
			f.Verified, f.Orphans = &now, nil
			if v.Orphans.Objects > 0 {
				f.Orphans = orphansIn(name, v.Orphans)
			}
		})
	}
	if err == nil {
		err = a.rememberVerified(ctx, all, problems)
	}
	return err
}

func (v *Verified) add(name string, more ship.Verified, problems []ship.Problem) {
	v.Checked.Points += more.Points
	v.Checked.Streams += more.Streams
	v.Checked.Segments += more.Segments
	v.Checked.Bytes += more.Bytes
	for _, p := range problems {
		v.Problems = append(v.Problems, Problem{Repository: name, Object: p.Object, Problem: p.Problem, Points: p.Points})
	}
	if more.Orphans.Objects > 0 {
		v.Orphans = append(v.Orphans, *orphansIn(name, more.Orphans))
	}
	for _, n := range more.Notes {
		v.Notes = append(v.Notes, name+": "+n)
	}
}

func orphansIn(name string, o ship.Orphans) *Orphans {
	return &Orphans{Repository: name, Objects: o.Objects, Bytes: o.Bytes, Examples: o.Examples}
}

// withMemory adds what only a host that remembers can know: that points are gone
// which were there. Verify itself believes the store alone.
func withMemory(problems, known []ship.Problem) []ship.Problem {
	for _, p := range known {
		if !slices.ContainsFunc(problems, func(o ship.Problem) bool { return o.Object == p.Object }) {
			problems = append(problems, p)
		}
	}
	return problems
}

// noteFindings makes what was found count from now on: in the ledger, where
// every host sees it, or in the memory of this host when it has no key to sign
// with or may not write.
func (a *Agent) noteFindings(ctx context.Context, name string, repo *ship.Repository, cache *ship.Cache, v ship.Verified, out *Verified) {
	err := cache.NoteWhole(v.Sound)
	view, lookErr := repo.View(ctx, cache, ship.Whole)
	if lookErr != nil {
		a.warnOfError("", fmt.Errorf("repository %s: %w", name, errors.Join(err, lookErr)))
		return
	}
	if err == nil && len(v.Whole) > 0 {
		if err = repo.NoteWhole(ctx, view, v.Whole); err == nil {
			out.Notes = append(out.Notes, fmt.Sprintf("%s: %s found whole again", name, plural(len(v.Whole), "stream that was noted as damaged was", "streams that were noted as damaged were")))
		}
	}
	if err != nil && !errors.Is(err, ship.ErrReadOnly) {
		a.warnOfError("", fmt.Errorf("repository %s: %w", name, err))
	}
	if len(v.Damage) > 0 {
		a.noteDamage(ctx, name, repo, view, cache, v.Damage)
	}
	if len(v.Damage)+len(v.Whole) > 0 {
		if view, err = repo.View(ctx, cache, ship.Whole); err != nil {
			a.warnOfError("", fmt.Errorf("repository %s: %w", name, err))
			return
		}
	}
	a.noteLook(name, repo, view, cache, ship.Whole)
	if slices.ContainsFunc(out.Problems, func(p Problem) bool { return p.Repository == name }) {
		out.do = append(out.do, a.remedies(ctx, name, view)...)
	}
}

// noteSuspects has every look from now on ask for the points and events that do
// not verify, whatever is known of them.
func (a *Agent) noteSuspects(name string, cache *ship.Cache, problems []ship.Problem) {
	var keys []string
	for _, p := range problems {
		keys = append(keys, p.Object)
	}
	if err := cache.NoteSuspect(keys); err != nil {
		a.warnOfError("", fmt.Errorf("repository %s: %w", name, err))
	}
}

// noteDamage writes damage into the ledger, or, where that cannot be, into the
// memory of this host.
func (a *Agent) noteDamage(ctx context.Context, name string, repo *ship.Repository, view *ship.View, cache *ship.Cache, damage []ship.Damage) {
	err := repo.NoteDamage(ctx, view, damage)
	if err == nil {
		return
	}
	if !errors.Is(err, ship.ErrReadOnly) {
		a.warnOfError("", fmt.Errorf("repository %s: %w; only this host remembers it", name, err))
	}
	if err := cache.NoteDamage(damage); err != nil {
		a.warnOfError("", err)
	}
}

// verifiable are the wanted points, of those that can be read in a repository.
func (a *Agent) verifiable(name string, repo *ship.Repository, view *ship.View, wanted []string) ([]point.Point, error) {
	local := a.points()
	points := joinPoints(name, view.Points, local, a.tags(repo, local, nil))
	points = slices.DeleteFunc(points, func(p point.Point) bool { return !p.InRepository(name) })
	if len(wanted) == 0 {
		return points, nil
	}
	var out []point.Point
	for _, w := range wanted {
		p, err := matchIn(points, w, map[string]*ship.View{name: view}, a.Now())
		if err != nil {
			return nil, err
		}
		out = append(out, p)
	}
	return out, nil
}

// rememberVerified writes down, for status, when a point was last found whole.
func (a *Agent) rememberVerified(ctx context.Context, points []point.ID, problems []ship.Problem) error {
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
	for _, id := range points {
		if damaged[id] {
			continue
		}
		if err := a.rememberIfKnown(ctx, id, func(q *point.Point) { q.Verified = &now }); err != nil {
			return err
		}
	}
	return nil
}
