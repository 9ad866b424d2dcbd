package agent

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"snapd/internal/point"
)

// tellFound adds what looks at the repositories found, and what the local
// record says of points of the future.
func (a *Agent) tellFound(out *Status, points []point.Point, known map[string]found) {
	t := &findings{agent: a, out: out, groups: map[point.ID]string{}, told: map[point.ID]bool{}}
	for _, p := range points {
		t.groups[p.ID] = p.Group
	}
	for _, name := range slices.Sorted(maps.Keys(a.Config.Repositories)) {
		f, looked := known[name]
		t.repository(name, f, looked)
	}
	for _, p := range points {
		t.future(foundPoint{ID: p.ID, Group: p.Group, Time: p.Time})
	}
}

// findings sorts what was found to the groups that it concerns.
type findings struct {
	agent  *Agent
	out    *Status
	groups map[point.ID]string // of the local record
	told   map[point.ID]bool   // of the future, and said so already
}

func (t *findings) repository(name string, f found, looked bool) {
	unexplained := slices.Concat(f.Problems, f.Leases)
	st := RepositoryStatus{Repository: name, Verified: f.Verified, Problems: unexplained, Orphans: f.Orphans, Room: f.Room}
	if st.Problems == nil {
		st.Problems = []string{}
	}
	if looked {
		st.Looked = &f.Looked
	}
	t.out.Repositories = append(t.out.Repositories, st)
	if f.Room != nil && f.Room.Little() {
		t.out.Attention = append(t.out.Attention, fmt.Sprintf("repository %s is nearly full: %s", name, f.Room))
	}
	for _, p := range unexplained {
		t.out.Attention = append(t.out.Attention, fmt.Sprintf("repository %s: %s: nothing is removed there until it is explained: see snapd repair %s", name, p, name))
	}
	t.perGroup(f.Damaged, func(g *GroupStatus, group string, ids []point.ID) {
		g.Damaged = union(g.Damaged, ids)
		g.Attention = slices.Insert(g.Attention, 0, fmt.Sprintf("%s damaged in %s (%s): snapd ship %s ships anew what has its snapshot here", plural(len(ids), "restore point is", "restore points are"), name, few(ids), group))
	})
	t.perGroup(f.Lost, func(g *GroupStatus, group string, ids []point.ID) {
		g.Lost = union(g.Lost, ids)
		whose := "their"
		if len(ids) == 1 {
			whose = "its"
		}
		g.Attention = slices.Insert(g.Attention, 0, fmt.Sprintf("%s gone from %s without a signed record of %s removal (%s): snapd ship %s ships anew what has its snapshot here", plural(len(ids), "restore point is", "restore points are"), name, whose, few(ids), group))
	})
	for _, p := range f.Future {
		t.future(p)
	}
	if o := f.Orphans; o != nil {
		t.out.Attention = append(t.out.Attention, fmt.Sprintf("repository %s: %s below data/ with %d bytes belong to no restore point: when nothing else is shipping, snapd prune removes them if it is told so (see its manual)", name, plural(o.Objects, "object", "objects"), o.Bytes))
	}
}

func (t *findings) future(p foundPoint) {
	if t.told[p.ID] || !isFuture(p.Time, t.agent.Now()) {
		return
	}
	t.told[p.ID] = true
	t.perGroup([]foundPoint{p}, func(g *GroupStatus, _ string, ids []point.ID) {
		g.Future = union(g.Future, ids)
		g.Attention = append(g.Attention, fmt.Sprintf("point %s is in the future: a clock was wrong when it was taken (snapd drop %s removes it)", p.ID, p.ID))
	})
}

// perGroup calls each for the points of each group. What is of no group that
// is known here concerns the host.
func (t *findings) perGroup(points []foundPoint, each func(g *GroupStatus, group string, ids []point.ID)) {
	byGroup := map[string][]point.ID{}
	for _, p := range points {
		group := p.Group
		if known, here := t.groups[p.ID]; here {
			group = known
		}
		byGroup[group] = append(byGroup[group], p.ID)
	}
	for _, group := range slices.Sorted(maps.Keys(byGroup)) {
		if i := slices.IndexFunc(t.out.Groups, func(g GroupStatus) bool { return g.Group == group }); i >= 0 && group != "" {
			each(&t.out.Groups[i], group, byGroup[group])
			continue
		}
		var other GroupStatus
		each(&other, group, byGroup[group])
		for _, text := range other.Attention {
			t.out.Attention = append(t.out.Attention, strings.TrimSpace("group "+group)+": "+text)
		}
	}
}

func union(a, b []point.ID) []point.ID {
	for _, id := range b {
		if !slices.Contains(a, id) {
			a = append(a, id)
		}
	}
	return a
}

// fewIDs is how many ids a line names.
const fewIDs = 3

func few(ids []point.ID) string {
	var words []string
	for i, id := range ids {
		if i == fewIDs {
			words = append(words, fmt.Sprintf("and %d more", len(ids)-i))
			break
		}
		words = append(words, string(id))
	}
	return strings.Join(words, ", ")
}
