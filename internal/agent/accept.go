package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"snapd/internal/advice"
	"snapd/internal/durable"
	"snapd/internal/point"
	"snapd/internal/retain"
)

// Accepted is what a user has accepted of a group.
type Accepted struct {
	Group   string         `json:"group"`
	Point   point.ID       `json:"point"`            // as this one is, the group is to be
	Changed []point.Change `json:"changed"`          // what it no longer counts as changed
	Before  point.ID       `json:"before,omitempty"` // the newest point that has all of that as it was
	Gone    []Gone         `json:"gone"`             // datasets that points have and it has not
}

// Gone is a dataset whose history retention counts no longer.
type Gone struct {
	Driver  string   `json:"driver"`
	Dataset string   `json:"dataset"`
	Last    point.ID `json:"last"` // the newest point that has it whole
}

// accepted is what this host remembers of that, for each group the last time. It
// may be lost: then what was accepted counts again, and more is kept.
type accepted struct {
	Format  int            `json:"format"`
	Group   string         `json:"group"`
	Time    time.Time      `json:"time"`
	Point   point.ID       `json:"point"`
	Origins []string       `json:"origins"` // of the datasets of that point
	Changes []point.Change `json:"changes"` // of that point, and of older ones that are still there
}

const acceptedFormat = 1

func (a *Agent) acceptedFile(group string) string {
	return filepath.Join(a.State, "accepted", group+".json")
}

// acceptedOf reads it. What is not there, or cannot be read, accepts nothing.
func (a *Agent) acceptedOf(group string) accepted {
	if a.OnlyRepositories || group == "" || filepath.Base(group) != group {
		return accepted{}
	}
	text, err := os.ReadFile(a.acceptedFile(group))
	if errors.Is(err, fs.ErrNotExist) {
		return accepted{}
	}
	var x accepted
	if err == nil {
		err = json.Unmarshal(text, &x)
	}
	if err == nil && x.Format != acceptedFormat {
		err = fmt.Errorf("its format is %d", x.Format)
	}
	if err != nil {
		a.warnOfError(group, advice.With(fmt.Errorf("read what was accepted: %w", err), "run: snapd accept %s", group))
		return accepted{}
	}
	return x
}

// accepts tells whether a user has accepted a change.
func (x accepted) accepts(c point.Change) bool { return slices.ContainsFunc(x.Changes, c.Same) }

// open are the changes that no user has accepted.
func (x accepted) open(changes []point.Change) []point.Change {
	return slices.DeleteFunc(slices.Clone(changes), x.accepts)
}

// counts tells of a dataset whether its history counts: it does not once a user has
// accepted a point without it, and no later point has it.
func (x accepted) counts(candidates []retain.Candidate) func(origin string) bool {
	if x.Point == "" {
		return func(string) bool { return true }
	}
	newest := map[string]point.ID{}
	for _, c := range candidates {
		for _, d := range c.Has {
			newest[d.Origin] = max(newest[d.Origin], c.ID)
		}
	}
	return func(origin string) bool { return slices.Contains(x.Origins, origin) || newest[origin] > x.Point }
}

// whole are the datasets that a point has as they are meant to be: none of which a
// change that is open says that something of it is missing.
func (x accepted) whole(p point.Point, origins []string) []retain.Dataset {
	open := x.open(p.Changed)
	var out []retain.Dataset
	for _, origin := range origins {
		if slices.ContainsFunc(open, func(c point.Change) bool { return c.Was.Origin == origin }) {
			continue
		}
		name := origin
		if i := slices.IndexFunc(p.Datasets, func(d point.Dataset) bool { return d.Origin == origin }); i >= 0 {
			name = p.Datasets[i].Driver + " " + p.Datasets[i].Dataset
		}
		out = append(out, retain.Dataset{Origin: origin, Name: name})
	}
	return out
}

func originsOf(p point.Point) []string {
	var out []string
	for _, d := range p.Datasets {
		out = append(out, d.Origin)
	}
	return out
}

// Accept takes the newest point of each group for what the group is to be from now
// on: what it says has changed is not said any more, and the history of a dataset
// that it lacks counts no longer. Nothing is removed by that; the next prune goes
// by it. No group is accepted unless all of them are known.
func (a *Agent) Accept(ctx context.Context, groups []string) ([]Accepted, error) {
	out := []Accepted{}
	if a.OnlyRepositories {
		return out, advice.With(advice.Usagef("what is accepted is remembered on this host, and another repository is named"), "leave out what names it")
	}
	points := a.points()
	var found []acceptance
	for _, g := range groups {
		x, err := a.acceptance(ctx, g, points)
		if err != nil {
			return out, err
		}
		if !slices.ContainsFunc(found, func(o acceptance) bool { return o.group == g }) {
			found = append(found, x)
		}
	}
	for _, x := range found {
		done, err := a.accept(ctx, x)
		if err != nil {
			return out, fmt.Errorf("accept group %s as it is: %w", x.group, err)
		}
		out = append(out, done)
	}
	return out, nil
}

// acceptance is one group of a call.
type acceptance struct {
	group  string
	newest point.Point
	points []point.Point
}

func (a *Agent) acceptance(ctx context.Context, group string, local []point.Point) (acceptance, error) {
	of := func(points []point.Point) []point.Point {
		return slices.DeleteFunc(slices.Clone(points), func(p point.Point) bool { return p.Group != group || InFuture(p, a.Now()) })
	}
	x := acceptance{group: group, points: of(local)}
	if len(x.points) == 0 {
		all, _, fault := a.everywhere(ctx) // the record is lost, or this host prunes the points of another
		if x.points = of(all); len(x.points) == 0 {
			return x, errors.Join(a.nothingToAccept(ctx, group), fault)
		}
	}
	x.newest = newestOf(x.points, nil, a.Now())
	return x, nil
}

// nothingToAccept says of a group without points whether there is such a group.
func (a *Agent) nothingToAccept(ctx context.Context, group string) error {
	s, err := a.look(ctx)
	if err != nil {
		return err
	}
	if _, err = s.find(group); err == nil {
		err = advice.With(fmt.Errorf("group %s has no restore point that could be accepted", group), "run: snapd run %s", group)
	}
	return errors.Join(err, s.close())
}

func (a *Agent) accept(ctx context.Context, x acceptance) (_ Accepted, err error) {
	held, err := a.waitLock(ctx, "record", "the local record", time.Minute)
	if err != nil {
		return Accepted{}, err
	}
	defer func() { err = errors.Join(err, held.release()) }()
	before := a.acceptedOf(x.group)
	now := accepted{
		Format: acceptedFormat, Group: x.group, Time: a.Now().UTC(), Point: x.newest.ID, Origins: originsOf(x.newest),
		Changes: slices.Clone(x.newest.Changed),
	}
	for _, c := range before.Changes {
		told := func(p point.Point) bool { return slices.ContainsFunc(p.Changed, c.Same) }
		if !now.accepts(c) && slices.ContainsFunc(x.points, told) {
			now.Changes = append(now.Changes, c)
		}
	}
	text, err := json.MarshalIndent(now, "", "  ")
	if err == nil {
		err = os.MkdirAll(filepath.Dir(a.acceptedFile(x.group)), 0o700)
	}
	if err == nil {
		err = durable.Write(a.acceptedFile(x.group), append(text, '\n'), 0o600)
	}
	if err != nil {
		return Accepted{}, err
	}
	out := Accepted{Group: x.group, Point: x.newest.ID, Changed: notNil(before.open(x.newest.Changed)), Gone: notNil(goneSince(x, before))}
	if p, found := before.lastWith(x.points, x.newest, out.Changed); found && len(out.Changed) > 0 {
		out.Before = p.ID
	}
	return out, nil
}

// goneSince are the datasets of older points that the newest one lacks and that
// counted until now.
func goneSince(x acceptance, before accepted) []Gone {
	var candidates []retain.Candidate
	last, names := map[string]point.ID{}, map[string]point.Dataset{}
	var order []string
	for _, p := range x.points {
		has := before.whole(p, originsOf(p))
		candidates = append(candidates, retain.Candidate{ID: p.ID, Has: has})
		for _, d := range p.Datasets {
			if last[d.Origin] == "" {
				order = append(order, d.Origin)
			}
			if names[d.Origin] = d; last[d.Origin] == "" || slices.ContainsFunc(has, func(h retain.Dataset) bool { return h.Origin == d.Origin }) {
				last[d.Origin] = max(last[d.Origin], p.ID)
			}
		}
	}
	counts := before.counts(candidates)
	var out []Gone
	for _, origin := range order {
		if !hasOrigin(x.newest, origin) && counts(origin) {
			out = append(out, Gone{Driver: names[origin].Driver, Dataset: names[origin].Dataset, Last: last[origin]})
		}
	}
	return out
}

func notNil[T any](list []T) []T {
	if list == nil {
		return []T{}
	}
	return list
}

// keptFor names the datasets for whose sake older points stay, although the newest
// one neither has them nor says that they are missing.
func (a *Agent) keptFor(group string, points []point.Point, newest point.Point) []string {
	x := acceptance{group: group, newest: newest}
	for _, p := range points {
		if p.Group == group && p.ID <= newest.ID {
			x.points = append(x.points, p)
		}
	}
	before := a.acceptedOf(group)
	var out []string
	for _, g := range goneSince(x, before) {
		told := func(c point.Change) bool { return c.Was.Driver == g.Driver && c.Was.Dataset == g.Dataset }
		if !slices.ContainsFunc(newest.Changed, told) {
			out = append(out, fmt.Sprintf("points up to %s have %s %s, which the newest has not, and stay for its sake: once they may go, run snapd accept %s", g.Last, g.Driver, g.Dataset, group))
		}
	}
	return out
}
