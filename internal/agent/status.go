package agent

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"snapd/internal/point"
	"snapd/internal/workload"
)

// Status is how each group stands.
type Status struct {
	Groups    []GroupStatus `json:"groups"`
	Attention []string      `json:"attention,omitempty"` // what concerns the host: windows that could not be recovered, restores that were interrupted

	Repositories []RepositoryStatus `json:"repositories"`
	Orphans      []OrphanStatus     `json:"orphans,omitempty"` // snapshots here that belong to no restore point
}

// RepositoryStatus is what the last looks at a repository found.
type RepositoryStatus struct {
	Repository string     `json:"repository"`
	Looked     *time.Time `json:"looked"`   // null: never
	Verified   *time.Time `json:"verified"` // when all of it was last read, null: never
	Problems   []string   `json:"problems"` // what is unexplained there: while there is any, nothing is removed
	Orphans    *Orphans   `json:"orphans"`  // as the last verify found them, null: none
	Room       *Room      `json:"room"`     // when it was last looked at, null: it cannot tell
}

// GroupStatus is how one group stands. Times are those of the points; null
// when there is none.
type GroupStatus struct {
	Group          string     `json:"group"`
	NewestLocal    *time.Time `json:"newest_local"`
	NewestShipped  *time.Time `json:"newest_shipped"`
	NewestVerified *time.Time `json:"newest_verified"`
	NewestDrilled  *time.Time `json:"newest_drilled"`
	Attention      []string   `json:"attention"`        // a fact each, the gravest first
	Failed         []Failure  `json:"failed,omitempty"` // steps that failed last, and were not done since
	Late           *Late      `json:"late,omitempty"`   // by its schedule

	Changed []point.Change `json:"changed,omitempty"` // what the newest point does not have as those before it, until that is accepted
	Damaged []point.ID     `json:"damaged,omitempty"` // points that cannot be restored from a repository, as far as it is known
	Lost    []point.ID     `json:"lost,omitempty"`    // points that are gone from one without a signed record of their removal
	Future  []point.ID     `json:"future,omitempty"`  // points whose time lies in the future
}

// Status says how each group stands, from what this host knows: it asks no
// repository.
func (a *Agent) Status(ctx context.Context) (Status, error) {
	out := Status{Groups: []GroupStatus{}, Attention: a.Leftovers(), Repositories: []RepositoryStatus{}}
	s, err := a.look(ctx)
	if err != nil {
		return out, err
	}
	defer s.close() //nolint:errcheck // only read from
	a.tendStorage(ctx)
	out.Attention = append(out.Attention, a.interrupted(ctx)...)
	points := a.points()
	out.Orphans = a.orphanStatus(points)
	for _, o := range out.Orphans {
		if !o.Strange {
			out.Attention = append(out.Attention, o.String())
		}
	}
	known := a.lastFound()
	a.tellHealth(ctx, &out, points)
	for _, g := range s.groups {
		st := a.groupStatus(ctx, g, points, known)
		if err := g.Faults(); err != nil && !saysSo(st.Failed, err) {
			st.Attention = append(st.Attention, "no restore point can be taken: "+err.Error())
		}
		if took := a.stopTook(g); took > 0 && took >= time.Duration(g.MaxWindow) {
			st.Attention = append(st.Attention, fmt.Sprintf("stopping the members took %v the last time, longer than max-window: no restore point is taken", took.Round(100*time.Millisecond)))
		}
		out.Groups = append(out.Groups, st)
	}
	for _, p := range s.problems {
		if p.Group == "" {
			a.warnOfError("", p.Err())
			continue
		}
		// A group that cannot be used is none of s.groups, and needs attention most.
		i := slices.IndexFunc(out.Groups, func(g GroupStatus) bool { return g.Group == p.Group })
		if i < 0 {
			i = len(out.Groups)
			out.Groups = append(out.Groups, GroupStatus{Group: p.Group, Failed: a.failures(p.Group)})
			keptTimes(&out.Groups[i], points, a.Config.Group(p.Group, a.Config.Groups[p.Group]).Repositories)
		}
		out.Groups[i].Attention = slices.Insert(out.Groups[i].Attention, 0, p.String())
	}
	out.Groups = append(out.Groups, strangers(out.Groups, points)...)
	a.tellFound(&out, points, known)
	slices.SortFunc(out.Groups, func(a, b GroupStatus) int { return cmp.Compare(a.Group, b.Group) })
	return out, nil
}

// strangers are the groups of restore points that nothing makes any more: a
// group that was renamed or taken away. Retention leaves their points alone.
func strangers(known []GroupStatus, points []point.Point) []GroupStatus {
	var out []GroupStatus
	for _, p := range points {
		if slices.ContainsFunc(known, func(g GroupStatus) bool { return g.Group == p.Group }) {
			continue
		}
		if !slices.ContainsFunc(out, func(s GroupStatus) bool { return s.Group == p.Group }) {
			out = append(out, GroupStatus{Group: p.Group, Attention: []string{
				"no configuration and no container makes this group now: no new restore points are taken, and those that are there stay until a person prunes the group by name",
			}})
		}
	}
	for i := range out {
		keptTimes(&out[i], points, nil)
	}
	return out
}

// newestOf fills in the times of a group's points; it returns the newest point, nil
// if there is none, and how many have yet to be shipped.
func (a *Agent) newestOf(g workload.Group, points []point.Point, st *GroupStatus) (newest *point.Point, waiting int) {
	for _, p := range points {
		if p.Group != g.Name || isFuture(p.Time, a.Now()) {
			continue // one of the future would be the newest for as long
		}
		newest = &p
		st.NewestLocal = &p.Time
		whole, owed := len(g.Repositories) > 0, false
		for _, r := range g.Repositories {
			whole = whole && p.InRepository(r)
			owed = owed || p.Awaits(r)
		}
		if whole {
			st.NewestShipped = &p.Time
		}
		if owed {
			waiting++
		}
		if p.Verified != nil {
			st.NewestVerified = &p.Time
		}
	}
	return newest, waiting
}

func (a *Agent) groupStatus(ctx context.Context, g workload.Group, points []point.Point, known map[string]found) GroupStatus {
	st := GroupStatus{Group: g.Name, Attention: []string{}}
	newest, waiting := a.newestOf(g, points, &st)
	say := func(format string, args ...any) { st.Attention = append(st.Attention, fmt.Sprintf(format, args...)) }
	st.Failed = a.failures(g.Name)
	for _, f := range st.Failed {
		switch {
		case slices.ContainsFunc(st.Failed, f.repeats): // in one line
		case newest == nil && f.Step == StepSnapshot:
			say("no restore point yet: %s", f)
		case waiting > 0 && f.Step == StepShip:
			say("%s not shipped: %s", plural(waiting, "restore point is", "restore points are"), f)
		default:
			say("%s", f)
		}
	}
	if newest == nil {
		if !failed(st.Failed, StepSnapshot) {
			say("no restore point yet: run snapd run %s", g.Name)
		}
		return st
	}
	newest.Changed = a.acceptedOf(g.Name).open(newest.Changed)
	st.Changed = newest.Changed
	st.Attention = append(changedLines(g.Name, newest.Changed), st.Attention...)
	if st.Late = a.lateBy(ctx, g, newest.Time); st.Late != nil {
		say("%s", st.Late)
	}
	grave, rest := byGravity(newest.Warnings)
	st.Attention = append(st.Attention, grave...)
	st.Attention = append(st.Attention, a.keptFor(g.Name, points, *newest)...)
	if len(g.Repositories) == 0 {
		say("no repository: its restore points lie on this host only")
	}
	if waiting > 0 && !failed(st.Failed, StepShip) {
		say("%s not shipped: run snapd ship %s", plural(waiting, "restore point is", "restore points are"), g.Name)
	}
	looked := slices.ContainsFunc(g.Repositories, func(r string) bool { return known[r].Verified != nil })
	if st.NewestShipped != nil && st.NewestVerified == nil && !looked {
		say("nothing was ever verified: run snapd verify")
	}
	st.Attention = append(st.Attention, rest...)
	return st
}

// failed tells whether a step failed last.
func failed(all []Failure, step string) bool {
	return slices.ContainsFunc(all, func(f Failure) bool { return f.Step == step })
}

// saysSo tells whether a failure has said an error already.
func saysSo(all []Failure, err error) bool {
	return slices.ContainsFunc(all, func(f Failure) bool { return strings.Contains(f.What, short(err.Error())) })
}

func plural(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}
