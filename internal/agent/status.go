package agent

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"snapd/internal/point"
	"snapd/internal/workload"
)

// Status is how each group stands.
type Status struct {
	Groups []GroupStatus `json:"groups"`
}

// GroupStatus is how one group stands. Times are those of the points; null
// when there is none.
type GroupStatus struct {
	Group          string     `json:"group"`
	NewestLocal    *time.Time `json:"newest_local"`
	NewestShipped  *time.Time `json:"newest_shipped"`
	NewestVerified *time.Time `json:"newest_verified"`
	NewestDrilled  *time.Time `json:"newest_drilled"`
	Attention      []string   `json:"attention"`
}

// Status says how each group stands, from what this host knows: it asks no
// repository.
func (a *Agent) Status(ctx context.Context) (Status, error) {
	out := Status{Groups: []GroupStatus{}}
	s, err := a.look(ctx)
	if err != nil {
		return out, err
	}
	defer s.close() //nolint:errcheck // only read from
	points := a.points()
	for _, g := range s.groups {
		out.Groups = append(out.Groups, a.groupStatus(g, points))
	}
	for _, p := range s.problems {
		if p.Group == "" {
			a.warn("", "%s", p)
			continue
		}
		// A group that cannot be used is none of s.groups, and needs attention most.
		i := slices.IndexFunc(out.Groups, func(g GroupStatus) bool { return g.Group == p.Group })
		if i < 0 {
			i = len(out.Groups)
			out.Groups = append(out.Groups, GroupStatus{Group: p.Group})
		}
		out.Groups[i].Attention = append(out.Groups[i].Attention, p.String())
	}
	slices.SortFunc(out.Groups, func(a, b GroupStatus) int { return cmp.Compare(a.Group, b.Group) })
	return out, nil
}

func (a *Agent) groupStatus(g workload.Group, points []point.Point) GroupStatus {
	st := GroupStatus{Group: g.Name, Attention: []string{}}
	var newest *point.Point
	waiting := 0
	for _, p := range points {
		if p.Group != g.Name {
			continue
		}
		newest = &p
		st.NewestLocal = &p.Time
		whole, lacks := len(g.Repositories) > 0, false
		for _, r := range g.Repositories {
			whole = whole && p.InRepository(r)
			lacks = lacks || p.Awaits(r)
		}
		if whole {
			st.NewestShipped = &p.Time
		}
		if lacks {
			waiting++
		}
		if p.Verified != nil {
			st.NewestVerified = &p.Time
		}
	}
	say := func(format string, args ...any) { st.Attention = append(st.Attention, fmt.Sprintf(format, args...)) }
	switch {
	case newest == nil:
		say("no restore point yet: run snapd run %s", g.Name)
		return st
	case len(g.Repositories) == 0:
		say("no repository: its restore points lie on this host only")
	case waiting > 0:
		say("%d restore points are not shipped: run snapd ship %s", waiting, g.Name)
	case st.NewestVerified == nil:
		say("nothing was ever verified: run snapd verify")
	}
	for _, w := range newest.Warnings {
		say("%s", w)
	}
	return st
}
