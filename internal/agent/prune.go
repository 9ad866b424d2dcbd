package agent

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"snapd/internal/advice"
	"snapd/internal/config"
	"snapd/internal/point"
	"snapd/internal/retain"
	"snapd/internal/ship"
	"snapd/internal/workload"
)

// Verdict says what becomes of a point at one place, and why.
type Verdict struct {
	ID     point.ID `json:"id"`
	Where  string   `json:"where"` // "here" or the name of a repository
	Reason string   `json:"reason"`
}

// Pruned is what a prune kept and dropped, or would.
type Pruned struct {
	Keep []Verdict `json:"keep"`
	Drop []Verdict `json:"drop"`
	// Freed says what went from each repository, or would.
	Freed []Freed `json:"freed,omitempty"`
}

// Freed is what a prune freed in a repository.
type Freed struct {
	Repository string `json:"repository"`
	Points     int    `json:"points"`
	Streams    int    `json:"streams"`
	Objects    int    `json:"objects"`
	Bytes      int64  `json:"bytes"`
	// Orphans are, of these, what no signed record explained: only when it was
	// asked for.
	Orphans     int   `json:"orphans,omitempty"`
	OrphanBytes int64 `json:"orphan_bytes,omitempty"`
}

// PruneOptions say what to prune.
type PruneOptions struct {
	Groups []string // none means all
	DryRun bool
	// Now says that nothing else is shipping: what earlier uploads left behind
	// goes too, except below a living lease.
	Now bool
	// Former is the name of a group that is not configured any more, and Keep its
	// policy.
	Former string
	Keep   retain.Policy

	passing bool // what cannot be used was said before
}

func (p *Pruned) add(keep bool, id point.ID, where, format string, args ...any) {
	v := Verdict{ID: id, Where: where, Reason: fmt.Sprintf(format, args...)}
	if keep {
		p.Keep = append(p.Keep, v)
	} else {
		p.Drop = append(p.Drop, v)
	}
}

// Prune applies the retention of the groups, in the repositories and here. No
// names means all groups.
func (a *Agent) Prune(ctx context.Context, names []string, dryRun bool) (Pruned, error) {
	return a.PruneAs(ctx, PruneOptions{Groups: names, DryRun: dryRun})
}

// PruneAs is Prune with what a person can say beside it.
func (a *Agent) PruneAs(ctx context.Context, o PruneOptions) (Pruned, error) {
	repos := a.repositories()
	defer repos.close()
	return a.prune(ctx, repos, o)
}

func (a *Agent) prune(ctx context.Context, repos *repositories, o PruneOptions) (Pruned, error) {
	out := Pruned{Keep: []Verdict{}, Drop: []Verdict{}}
	s, groups, unusable, err := a.pruneGroups(ctx, o)
	if err != nil {
		return out, err
	}
	defer s.close() //nolint:errcheck // only read from
	a.sweepBefore(ctx, o)
	var faults []error
	if unusable != nil && !o.passing {
		faults = append(faults, unusable)
	}
	views := map[string]*ship.View{}
	failed := map[string]error{} // by group
	gone := repos.gone()
	for name := range repos.asTheyAnswer(ctx, a.usedRepositories(groups)) {
		p := pruneThere{agent: a, PruneOptions: o, groups: groups, out: &out}
		view, err := p.repository(ctx, repos, name)
		if err != nil {
			said := repos.said(name, gone, err)
			err = fmt.Errorf("prune repository %s: %w", name, err)
			joinFor(failed, groups, name, err)
			if !said {
				faults = append(faults, err)
			}
			continue
		}
		views[name] = view
	}
	taken := a.takenStill(o.Former)
	for _, g := range groups {
		h := pruneHere{agent: a, group: g, views: views, out: &out, dryRun: o.DryRun, repos: repos, taken: taken}
		fault := h.points(ctx)
		if g.Name != o.Former {
			fault = errors.Join(fault, h.strays(ctx, s))
		}
		if fault != nil {
			fault = fmt.Errorf("prune the snapshots of group %s: %w", g.Name, fault)
			faults = append(faults, fault)
		}
		if !o.DryRun && g.Name != o.Former {
			a.noteOutcome(ctx, g.Name, StepPrune, errors.Join(failed[g.Name], fault))
		}
	}
	if len(faults) == 0 { // otherwise not everything is known
		a.pruneOrphans(ctx, s, repos, views, o, &out)
	}
	if o.Former != "" && len(faults) == 0 && len(out.Keep)+len(out.Drop) == 0 {
		faults = append(faults, fmt.Errorf("group %s has points neither here nor in a repository: %w", o.Former, ErrNotThere))
	}
	return out, errors.Join(faults...)
}

// joinFor adds a fault to those of the groups that ship to a repository.
func joinFor(failed map[string]error, groups []workload.Group, repository string, err error) {
	for _, g := range groups {
		if slices.Contains(g.Repositories, repository) {
			failed[g.Name] = errors.Join(failed[g.Name], err)
		}
	}
}

// pruneGroups are the groups that a prune is about; unusable is as pick says.
func (a *Agent) pruneGroups(ctx context.Context, o PruneOptions) (_ *scene, _ []workload.Group, unusable, err error) {
	if o.Former == "" {
		return a.lookForKept(ctx, o.Groups, false)
	}
	s, err := a.look(ctx)
	if err != nil {
		return nil, nil, nil, err
	}
	if _, err := s.find(o.Former); err == nil {
		err := advice.With(advice.Usagef("group %s is configured", o.Former), "name it without saying that it is gone: its own policy holds")
		return nil, nil, nil, errors.Join(err, s.close())
	}
	if o.Keep == (retain.Policy{}) {
		return nil, nil, nil, errors.Join(advice.With(advice.Usagef("group %s has no policy any more", o.Former), "say what stays of it"), s.close())
	}
	conf := a.Config.Group(o.Former, config.Settings{Keep: config.Keep(o.Keep)})
	return s, []workload.Group{{Group: conf}}, nil, nil
}

func (a *Agent) usedRepositories(groups []workload.Group) []string {
	var out []string
	for _, g := range groups {
		for _, r := range g.Repositories {
			if !slices.Contains(out, r) {
				out = append(out, r)
			}
		}
	}
	slices.Sort(out)
	return out
}

// pruneThere removes points from repositories.
type pruneThere struct {
	agent *Agent
	PruneOptions
	groups []workload.Group
	out    *Pruned
}

// repository drops points there and returns the view as it is after. It
// holds the same lock as the commit of a point does.
func (t *pruneThere) repository(ctx context.Context, repos *repositories, name string) (_ *ship.View, err error) {
	a := t.agent
	conf := a.Config.Repositories[name]
	o, err := repos.get(ctx, name)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			repos.failed(name, err)
		}
	}()
	held, err := a.waitLock(ctx, pointsLock(o.repo), "the list of points in "+name, time.Minute)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, held.release()) }()
	// A drop of this host may have removed a point since it was opened: that one
	// counts for no policy.
	if o.view.Behind() {
		if err := o.repo.CatchUp(ctx, o.view); err != nil {
			return nil, err
		}
	}
	local := a.points()
	if !t.DryRun {
		if local, err = a.reconcile(ctx, conf, o.repo, o.view); err != nil {
			return nil, err
		}
	}
	if !conf.Prune {
		a.warnOf(name, o.view.Problems)
		return o.view, nil
	}
	told := 0 // the first is in the error of a prune that they stop
	defer func() { a.warnOf(name, o.view.Problems[min(told, len(o.view.Problems)):]) }()
	if o.cache.Seen().Put > 0 { // it ships there, so that no other host does
		if err := a.checkWriters(o); err != nil {
			return nil, err
		}
	}
	drop, err := t.decide(joinPoints(name, o.view.Points, local, a.tags(o.repo, local, t.groups)), o)
	if err != nil {
		return nil, err
	}
	if err = t.drop(ctx, o, conf, drop); errors.Is(err, advice.Damaged) {
		told = 1
	}
	return o.view, err
}

// drop removes points. It writes down before what it is about to do, so that
// after a crash no program takes a removed point for one that was lost.
func (t *pruneThere) drop(ctx context.Context, o *opened, conf config.Repository, drop []point.ID) error {
	a := t.agent
	keep, err := a.unfinished(o.repo.ID, conf.Name)
	if err != nil {
		return err
	}
	for _, id := range drop {
		if t.DryRun {
			break
		}
		if err := a.rememberIfKnown(ctx, id, func(p *point.Point) {
			if !slices.Contains(p.Dropped, conf.Name) {
				p.Dropped = append(p.Dropped, conf.Name)
			}
		}); err != nil {
			return err
		}
	}
	pruned, err := o.repo.Prune(ctx, o.view, drop, ship.PruneOptions{Now: a.Now(), DryRun: t.DryRun, Keep: keep, Orphans: t.Now})
	if err == nil || len(pruned.Problems) > 0 {
		a.noteLeases(o.name, o.repo.ID, pruned.Problems)
	}
	if err != nil {
		return wayOut(err, pruned, o.name)
	}
	if pruned.Objects > 0 {
		t.out.Freed = append(t.out.Freed, Freed{
			Repository: conf.Name, Points: len(pruned.Points), Streams: len(pruned.Streams), Objects: pruned.Objects, Bytes: pruned.Bytes,
			Orphans: pruned.Orphans.Objects, OrphanBytes: pruned.Orphans.Bytes,
		})
	}
	if t.DryRun {
		return nil
	}
	for _, id := range drop {
		if err := a.rememberIfKnown(ctx, id, func(p *point.Point) { p.Leave(conf.Name, true) }); err != nil {
			return err
		}
	}
	return nil
}

// wayOut says what to do about what stops a prune.
func wayOut(err error, pruned ship.Pruned, repository string) error {
	if len(pruned.Problems) == 0 {
		return err
	}
	return advice.With(err, "run: snapd repair %s, which says what it is, and settles it or says how", repository)
}

func (a *Agent) warnOf(repository string, problems []ship.Problem) {
	for _, p := range problems {
		a.warn("", "repository %s: %s: %s", repository, p.Object, p.Problem)
	}
}

// decide asks retain for each group which of the points in a repository go.
func (t *pruneThere) decide(points []point.Point, o *opened) ([]point.ID, error) {
	a := t.agent
	var drop []point.ID
	name := o.name
	for _, g := range t.groups {
		if !slices.Contains(g.Repositories, name) {
			continue
		}
		x := a.acceptedOf(g.Name)
		candidates, numbers, newest := candidatesThere(points, g.Name, o, x)
		decisions, err := retain.ApplyEach(retain.Policy(g.Keep), candidates, x.counts(candidates), a.Now())
		if err != nil {
			return nil, fmt.Errorf("group %s: %w", g.Name, err)
		}
		for _, d := range decisions {
			if !d.Keep && numbers[d.ID] == newest {
				d.Keep, d.Reason = true, "the last one that was put there"
			}
			if !d.Keep && o.view.Pinned(d.ID) {
				d.Keep, d.Reason = true, "pinned"
			}
			t.out.add(d.Keep, d.ID, name, "%s", d.Reason)
			if !d.Keep {
				drop = append(drop, d.ID)
			}
		}
	}
	return drop, nil
}

// candidatesThere are the points of a group in a repository, with their numbers
// there and the highest of these.
func candidatesThere(points []point.Point, group string, o *opened, x accepted) (candidates []retain.Candidate, numbers map[point.ID]int64, newest int64) {
	numbers = map[point.ID]int64{}
	for _, p := range points {
		if p.Group == group && p.InRepository(o.name) {
			candidates = append(candidates, retain.Candidate{ID: p.ID, Time: p.Time, Order: o.view.Order(p.ID), Has: x.whole(p, originsThere(p, o)), Torn: !wholeIn(p, o.view)})
			numbers[p.ID] = p.Numbers[o.name]
			newest = max(newest, p.Numbers[o.name])
		}
	}
	return candidates, numbers, newest
}

// originsThere are the datasets of a point that a repository has, as is signed.
func originsThere(p point.Point, o *opened) []string {
	rec, there := o.view.Point(p.ID)
	if !there {
		return originsOf(p)
	}
	var out []string
	for _, s := range rec.Streams {
		out = append(out, s.Origin)
	}
	return out
}

// unfinished are the streams that no point names yet: those being uploaded,
// with what they build on, and those of points that are not whole yet.
// A host that cannot tell them must not prune.
func (a *Agent) unfinished(repository, name string) ([]point.ID, error) {
	keep, err := a.records.Keep(repository)
	if err != nil {
		return nil, err
	}
	points, err := a.record.All()
	if err != nil {
		return nil, err
	}
	for _, p := range points {
		for _, s := range p.Shipped {
			if s.Repository == name && !p.InRepository(name) {
				keep = append(keep, s.Stream)
			}
		}
	}
	return keep, nil
}

func (a *Agent) rememberIfKnown(ctx context.Context, id point.ID, change func(*point.Point)) error {
	_, err := a.remember(ctx, id, change)
	if errors.Is(err, point.ErrUnknown) {
		return nil
	}
	return err
}

func shortDuration(d time.Duration) string {
	const day = 24 * time.Hour
	switch {
	case d >= 2*day && d%day == 0:
		return fmt.Sprintf("%d days", d/day)
	case d >= time.Hour && d%time.Hour == 0:
		return fmt.Sprintf("%d h", d/time.Hour)
	}
	return d.String()
}
