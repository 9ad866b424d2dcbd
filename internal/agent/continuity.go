package agent

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"snapd/internal/advice"
	"snapd/internal/plan"
	"snapd/internal/point"
	"snapd/internal/workload"
)

// lookPatience is how long a point waits for what is known of its items. It is
// waited for after the window, when everything is thawed.
const lookPatience = 300 * time.Millisecond

// compare writes down what the point is made of, and what of that is not as it was
// in the last one. It never costs the point.
func (t *taking) compare(ctx context.Context) error {
	p := &t.point
	p.Items = itemsOf(t.found.items)
	var folders []string
	for _, i := range p.Items {
		folders = append(folders, i.Source)
	}
	for n, empty := range workload.Empty(ctx, folders, lookPatience) {
		p.Items[n].Empty = empty
	}
	last, _, err := t.Agent.record.Last(func(o point.Point) bool { return o.Group == p.Group && !InFuture(o, t.Now()) })
	if err != nil {
		t.warnOfError(p.Group, err)
	}
	t.before = last.Warnings
	p.Items, p.Changed = plan.Changes(last, *p, t.acceptedOf(p.Group).accepts)
	return nil
}

// itemsOf are items as points have them; what the members of one service mount
// alike is one.
func itemsOf(found []workload.Item) []point.Item {
	var out []point.Item
	for _, f := range found {
		item := point.Item{
			Kind: point.ItemPath, Project: f.Project, Member: f.Member, Target: f.Target, Source: f.Source,
			Volume: f.Mount.Volume, VolumeDriver: f.Mount.Driver, Subpath: f.Mount.Subpath,
			Place: point.Place{Driver: f.Place.Dataset.Driver, Dataset: f.Place.Dataset.Name, Origin: f.Place.Dataset.GUID, Path: f.Place.Path},
		}
		switch f.Mount.Kind {
		case workload.Volume:
			item.Kind = point.ItemVolume
		case workload.Bind:
			item.Kind = point.ItemBind
		}
		same := func(o point.Item) bool { return o.Key() == item.Key() && o.Same(item.Place) }
		if !slices.ContainsFunc(out, same) {
			out = append(out, item)
		}
	}
	return out
}

// notAsBefore says that a point was taken and is not as those before it.
func notAsBefore(p point.Point) error {
	if len(p.Changed) == 0 {
		return nil
	}
	text := p.Changed[0].String()
	if more := len(p.Changed) - 1; more > 0 {
		text += "; and " + plural(more, "more change", "more changes")
	}
	return advice.With(advice.In(advice.Partial, fmt.Errorf("group %s has changed: point %s was taken, but %s", p.Group, p.ID, text)), "%s", putBackOr(p.Group))
}

func putBackOr(group string) string {
	return "put it back as it was, or, if it is to be so from now on, run: snapd accept " + group
}

// changedLines say for status what of the newest point of a group is not as it
// was, the advice after the first.
func changedLines(group string, changed []point.Change) []string {
	const most = 3
	var out []string
	for n, c := range changed {
		if n == most {
			out = append(out, fmt.Sprintf("changed: %d more, see snapd show latest:%s", len(changed)-n, group))
			break
		}
		line := "changed: " + c.String()
		if n == 0 {
			line += ": " + putBackOr(group)
		}
		out = append(out, line)
	}
	return out
}

// withChanges leaves in the points the changes that no user has accepted, and
// gives those points their state.
func (a *Agent) withChanges(points []point.Point) []point.Point {
	known := map[string]accepted{}
	for i := range points {
		p := &points[i]
		if len(p.Changed) == 0 {
			continue
		}
		x, there := known[p.Group]
		if !there {
			x = a.acceptedOf(p.Group)
			known[p.Group] = x
		}
		if p.Changed = x.open(p.Changed); len(p.Changed) > 0 {
			p.States = append(slices.Clone(p.States), point.State{State: point.Changed})
		}
	}
	return points
}

// checkUnchanged looks at a point that is about to be restored. The latest is not
// taken for what a user means when it lacks what the points before it had: that
// one is to be named by its id.
func (a *Agent) checkUnchanged(src *source, wanted, dataset string) error {
	p := src.point
	x := a.acceptedOf(p.Group)
	open := slices.DeleteFunc(x.open(p.Changed), func(c point.Change) bool { return dataset != "" && !concerns(c, dataset) })
	if len(open) == 0 {
		return nil
	}
	var lines []string
	for _, c := range open {
		lines = append(lines, c.String())
	}
	do := fmt.Sprintf("name the point that you mean by its id: %s as it is", p.ID)
	if before, found := x.lastWith(src.beside, p, open); found {
		do = fmt.Sprintf("name the point that you mean by its id: %s, taken %s, is the last one before that; %s is the newest as it is", before.ID, before.Time.UTC().Format("2006-01-02 15:04 MST"), p.ID)
	}
	err := fmt.Errorf("point %s of group %s is changed: %s", p.ID, p.Group, strings.Join(lines, "; "))
	if isLatest(wanted) {
		return advice.With(fmt.Errorf("%w: whether %s means it cannot be told", err, wanted), "%s", do)
	}
	a.warnOfError("", advice.With(err, "%s", do))
	return nil
}

// concerns tells whether a change is about a dataset, by its name or guid.
func concerns(c point.Change, dataset string) bool {
	is := func(p point.Place) bool { return p.Dataset == dataset || p.Origin == dataset }
	return is(c.Was.Place) || c.Is != nil && is(*c.Is)
}

// lastWith is the newest point of a group that has what a later one lacks.
func (x accepted) lastWith(points []point.Point, p point.Point, lacks []point.Change) (point.Point, bool) {
	has := func(o point.Point) bool {
		open := x.open(o.Changed)
		return o.ID < p.ID && (o.Group == p.Group || o.Group == "") && !slices.ContainsFunc(lacks, func(c point.Change) bool {
			return !hasOrigin(o, c.Was.Origin) || slices.ContainsFunc(open, func(d point.Change) bool { return d.Was.Origin == c.Was.Origin })
		})
	}
	for _, o := range slices.Backward(points) {
		if has(o) {
			return o, true
		}
	}
	return point.Point{}, false
}

func hasOrigin(p point.Point, origin string) bool {
	return slices.ContainsFunc(p.Datasets, func(d point.Dataset) bool { return d.Origin == origin })
}
