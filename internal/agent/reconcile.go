package agent

import (
	"context"
	"maps"
	"slices"

	"snapd/internal/config"
	"snapd/internal/point"
	"snapd/internal/ship"
)

// listed tells whether a repository keeps a point. The local record alone does
// not say so: a repository can be made anew under the same name and address,
// and its numbers begin at 1 again.
func listed(p point.Point, view *ship.View) bool {
	_, kept := view.Point(p.ID)
	return kept
}

// wholeIn tells whether every dataset of the point can be restored from what a
// repository holds.
func wholeIn(p point.Point, view *ship.View) bool {
	rec, kept := view.Point(p.ID)
	return kept && len(rec.Streams) >= len(p.Datasets) &&
		!slices.ContainsFunc(rec.Streams, func(s ship.PointStream) bool { return !view.Whole(s.Stream) })
}

// droppedIn tells whether a signed record says that the point was removed from
// a repository.
func droppedIn(p point.Point, name string, view *ship.View) bool {
	if view.Dropped(p.ID) {
		return true
	}
	told, _ := view.Gone(p.Numbers[name])
	return told && !listed(p, view)
}

// reconcile corrects the local record where the repository says something else,
// and returns what the record then says. A point of which a signed record
// says that it was dropped is written down as such; one that is gone otherwise
// is to be shipped again.
func (a *Agent) reconcile(ctx context.Context, conf config.Repository, repo *ship.Repository, view *ship.View) ([]point.Point, error) {
	points := a.points()
	if slices.ContainsFunc(points, func(p point.Point) bool { return newer(p, conf.Name, view) }) {
		if err := repo.CatchUp(ctx, view); err != nil {
			return nil, err
		}
	}
	same := slices.ContainsFunc(points, func(p point.Point) bool { return p.InRepository(conf.Name) && listed(p, view) })
	for i, p := range points {
		if rec, kept := view.Point(p.ID); kept {
			q, err := a.followRecord(ctx, p, rec, conf.Name)
			if err != nil {
				return nil, err
			}
			points[i] = q
			continue
		}
		if !p.InRepository(conf.Name) {
			continue
		}
		number := p.Numbers[conf.Name]
		dropped := droppedIn(p, conf.Name, view)
		if _, old := view.Gone(number); old && same && !conf.Prune {
			dropped = true // version 1 kept no record, and another host prunes there
		}
		var vanished bool
		q, err := a.remember(ctx, p.ID, func(q *point.Point) {
			vanished = !dropped && !slices.Contains(q.Dropped, conf.Name)
			q.Leave(conf.Name, !vanished)
		})
		if err != nil {
			return nil, err
		}
		if vanished {
			a.warn(p.Group, "point %s is gone from repository %s although no record there says that it was removed; it is shipped again if its snapshots are still here", p.ID, conf.Name)
		}
		points[i] = q
	}
	return points, nil
}

// newer tells whether the record knows of something that happened after the
// look: another process of this host ships or drops at the same time.
func newer(p point.Point, name string, view *ship.View) bool {
	return p.Numbers[name] > view.Highest() || slices.Contains(p.Dropped, name) && listed(p, view)
}

// followRecord writes down under which number a repository keeps a point now,
// and with which streams: it was put again, or the process that put it was
// killed before it could say so.
func (a *Agent) followRecord(ctx context.Context, p point.Point, rec ship.PointRecord, name string) (point.Point, error) {
	if p.Numbers[name] == rec.Number || !p.InRepository(name) {
		return p, nil
	}
	return a.remember(ctx, p.ID, func(q *point.Point) { arrived(q, rec, name) })
}

// arrived writes down that a point lies in a repository.
func arrived(p *point.Point, rec ship.PointRecord, name string) {
	for _, s := range shippedFrom(name, rec, p.Datasets) {
		if before := p.ShippedTo(name, s.Dataset); before == nil || before.Stream != s.Stream {
			p.Arrive(s)
		}
	}
	p.Numbers = maps.Clone(p.Numbers)
	if p.Numbers == nil {
		p.Numbers = map[string]int64{}
	}
	p.Numbers[name] = rec.Number
}

// streamsOf are the streams of a dataset that can be restored and built upon.
func streamsOf(view *ship.View, origin string) []ship.StreamRef {
	var out []ship.StreamRef
	for _, s := range view.Streams() {
		if s.Origin == origin && view.Whole(s.ID) {
			out = append(out, s)
		}
	}
	return out
}
