package agent

import (
	"context"
	"slices"

	"snapd/internal/advice"
	"snapd/internal/point"
	"snapd/internal/ship"
)

// refuseLast is for what would leave a group without a point that can be
// restored: in a repository that has points of it, or on this host where none
// has. What was dropped, lost or damaged there does not count as left. Groups
// are told apart by their tags: whose name is encrypted has a last point too.
func (d *drop) refuseLast(ctx context.Context, going map[point.ID]bool) error {
	if d.o.Last {
		return nil
	}
	for _, in := range d.places {
		for _, id := range in.ids {
			if rec, _ := in.view.Point(id); !in.leaves(rec, going) {
				return lastOfGroup(id, " in repository "+in.name, groupNamed(d.chosen, id))
			}
		}
	}
	for _, p := range d.chosen {
		if p.Group == "" || slices.ContainsFunc(d.places, func(in *dropPlace) bool { return listed(p, in.view) }) {
			continue
		}
		leaves := func(q point.Point) bool {
			return q.Group == p.Group && !going[q.ID] && (d.wholeThere(q) || d.wholeHere(ctx, q))
		}
		if d.wholeHere(ctx, p) && !slices.ContainsFunc(d.local, leaves) {
			return lastOfGroup(p.ID, " on this host", p.Group)
		}
	}
	return nil
}

// leaves tells whether a point of the group stays in the repository: one that
// can be restored, if the one that goes can be.
func (in *dropPlace) leaves(rec ship.PointRecord, going map[point.ID]bool) bool {
	whole := in.whole(rec)
	return slices.ContainsFunc(in.view.Points, func(r ship.PointRecord) bool {
		return r.GroupTag == rec.GroupTag && !going[r.ID] && (in.whole(r) || !whole)
	})
}

func (in *dropPlace) whole(rec ship.PointRecord) bool {
	return !slices.ContainsFunc(rec.Streams, func(s ship.PointStream) bool { return !in.view.Whole(s.Stream) })
}

// wholeThere tells whether a repository holds all of a point.
func (d *drop) wholeThere(p point.Point) bool {
	return slices.ContainsFunc(d.places, func(in *dropPlace) bool { return wholeIn(p, in.view) })
}

// wholeHere tells whether all snapshots of a point are on this host.
func (d *drop) wholeHere(ctx context.Context, p point.Point) bool {
	return !slices.ContainsFunc(p.Datasets, func(ds point.Dataset) bool {
		s, err := d.seats.seat(ctx, ds)
		return err != nil || s.snap == nil
	})
}

func groupNamed(points []point.Point, id point.ID) string {
	i := slices.IndexFunc(points, func(p point.Point) bool { return p.ID == id })
	if i < 0 {
		return ""
	}
	return points[i].Group
}

func lastOfGroup(id point.ID, where, group string) error {
	of := "its group (the name is encrypted)"
	if group != "" {
		of = "group " + group
	}
	return advice.In(LastOfGroup, advice.Usagef("point %s is the last one of %s that can be restored%s", id, of, where))
}
