package agent

import (
	"context"
	"slices"

	"snapd/internal/config"
	"snapd/internal/point"
	"snapd/internal/ship"
)

// listed tells whether a listing shows the point in a repository. The record
// alone does not say so: a repository can be made anew under the same name and
// address, and its numbers begin at 1 again. Ids of streams are never reused.
func listed(p point.Point, name string, index *ship.Index) bool {
	return index.HasPoint(p.Numbers[name]) && slices.ContainsFunc(p.Shipped, func(s point.Shipped) bool {
		_, there := index.Stream(s.Stream)
		return there && s.Repository == name
	})
}

// wholeIn tells whether every dataset of the point can be restored from what
// a listing shows.
func wholeIn(p point.Point, name string, index *ship.Index) bool {
	return listed(p, name, index) && !slices.ContainsFunc(p.Datasets, func(d point.Dataset) bool {
		s := p.ShippedTo(name, d.Dataset)
		return s == nil || !index.Whole(s.Stream)
	})
}

// reconcile mends the local record where the repository has something else to
// say, and returns what the record then says. A point that retention removed,
// here before a crash or by who else prunes there, is written down as such;
// one that vanished otherwise is to be shipped again.
func (a *Agent) reconcile(ctx context.Context, conf config.Repository, index *ship.Index) ([]point.Point, error) {
	points := a.points()
	same := slices.ContainsFunc(points, func(p point.Point) bool { return listed(p, conf.Name, index) })
	for i, p := range points {
		if !p.InRepository(conf.Name) || listed(p, conf.Name, index) {
			continue
		}
		var vanished bool
		q, err := a.remember(ctx, p.ID, func(q *point.Point) {
			vanished = !slices.Contains(q.Dropped, conf.Name) && (conf.Prune || !same)
			q.Leave(conf.Name, !vanished)
		})
		if err != nil {
			return nil, err
		}
		if vanished {
			a.warn(p.Group, "point %s is gone from repository %s although nobody here removed it; it is shipped again if its snapshots are still here", p.ID, conf.Name)
		}
		points[i] = q
	}
	return points, nil
}

// streamsOf are the streams of a dataset that can be restored and built upon.
func streamsOf(index *ship.Index, origin string) []ship.StreamRef {
	var out []ship.StreamRef
	for _, s := range index.Streams {
		if s.Origin == origin && index.Whole(s.ID) {
			out = append(out, s)
		}
	}
	return out
}
