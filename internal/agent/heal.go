package agent

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"snapd/internal/advice"
	"snapd/internal/fs"
	"snapd/internal/point"
	"snapd/internal/ship"
	"snapd/internal/workload"
)

// heal ships anew what of a group's kept points in a repository is damaged, as
// far as the snapshots are still here. healed are the points that were put
// again, left says by point and dataset what cannot be healed.
func (a *Agent) heal(ctx context.Context, g workload.Group, repository string) (healed []point.Point, left []string, err error) {
	o, err := a.openFor(ctx, repository, ship.Whole) // what the plan of a repair has seen
	if err != nil {
		return nil, nil, err
	}
	defer func() { err = errors.Join(err, o.close()) }()
	s := &shipping{Agent: a}
	if err := s.checkWriters(o); err != nil {
		return nil, nil, err
	}
	if _, err := a.reconcile(ctx, a.Config.Repositories[repository], o.repo, o.view); err != nil {
		return nil, nil, err
	}
	return s.healIn(ctx, o, g)
}

// healIn is heal in an open repository. It goes through the damaged points from
// the oldest on and looks anew after each: what took the place of a damaged
// stream heals everything that builds on it.
func (a *shipping) healIn(ctx context.Context, o *opened, g workload.Group) (healed []point.Point, left []string, err error) {
	o.noted = false
	tried := map[point.ID]bool{}
	for ctx.Err() == nil {
		ill := illPoints(o, g.Name)
		i := slices.IndexFunc(ill, func(r ship.PointRecord) bool { return !tried[r.ID] })
		if i < 0 {
			break
		}
		tried[ill[i].ID] = true
		p, lacking, err := a.again(ctx, o, g, ill[i], false)
		for _, l := range lacking {
			l = fmt.Sprintf("point %s in repository %s: %s", ill[i].ID, o.name, l)
			left = append(left, l)
			a.warn(g.Name, "cannot be healed: %s", l)
		}
		if err != nil {
			return healed, left, fmt.Errorf("heal point %s: %w", ill[i].ID, err)
		}
		if p != nil {
			healed = append(healed, *p)
			a.warn(g.Name, "healed: point %s was damaged in repository %s, and was shipped there again", p.ID, o.name)
		}
	}
	return healed, left, ctx.Err()
}

// illPoints are the kept points of a group that cannot be restored whole, the
// oldest first: it has the streams that the others build on.
func illPoints(o *opened, group string) []ship.PointRecord {
	if len(o.view.Damage()) == 0 {
		return nil
	}
	tag := o.repo.GroupTag(group)
	out := slices.DeleteFunc(slices.Clone(o.view.Points), func(r ship.PointRecord) bool {
		return r.GroupTag != tag || !slices.ContainsFunc(r.Streams, func(s ship.PointStream) bool { return !o.view.Whole(s.Stream) })
	})
	slices.SortFunc(out, func(a, b ship.PointRecord) int { return cmp.Compare(o.view.Order(a.ID), o.view.Order(b.ID)) })
	return out
}

// again ships the damaged streams of a point anew, or all of them, and puts the
// point again. It returns nil for a point of which nothing could be shipped, and
// why.
func (a *shipping) again(ctx context.Context, o *opened, g workload.Group, rec ship.PointRecord, all bool) (_ *point.Point, lacking []string, err error) {
	p, err := a.record.Get(rec.ID)
	if err != nil {
		if rec.Sealed {
			return nil, []string{"this host does not know it, and has no key that opens it"}, nil
		}
		p = joinPoints(o.name, []ship.PointRecord{rec}, nil, nil)[0]
	}
	if rec.Sealed {
		rec.Secret, rec.Sealed = secretOf(p), false
	}
	rec.Host = HostID(o.repo.ID)
	rec.Streams = slices.Clone(rec.Streams)
	changed := false
	for i, s := range rec.Streams {
		if !all && o.view.Whole(s.Stream) {
			continue
		}
		fresh, err := a.streamAgain(ctx, o, g, p, s)
		if healsNothing(ctx, err) {
			lacking = append(lacking, err.Error())
			continue
		}
		if err != nil {
			return nil, lacking, err
		}
		rec.Streams[i], changed = fresh, true
	}
	if !changed {
		return nil, lacking, nil
	}
	if rec, err = a.put(ctx, o, rec, true); err != nil {
		return nil, lacking, err
	}
	q, err := a.remember(ctx, p.ID, func(q *point.Point) {
		arrived(q, rec, o.name)
		for _, s := range rec.Streams {
			if shipped, ours := o.why[s.Stream]; ours {
				q.Arrive(shipped)
			}
		}
	})
	if errors.Is(err, point.ErrUnknown) {
		q, err = p, nil
	}
	return &q, lacking, err
}

// healsNothing tells of a snapshot that is gone, or that the disk does not give back any
// more: it holds up nothing else.
func healsNothing(ctx context.Context, err error) bool {
	return errors.Is(err, fs.ErrNotFound) || errors.Is(err, fs.ErrUnreadable) && ctx.Err() == nil
}

// fullAgain ships the newest point of a group in full although it is there: a
// person asked for it, and nothing was waiting.
func (a *shipping) fullAgain(ctx context.Context, o *opened, g workload.Group) ([]point.Point, error) {
	tag := o.repo.GroupTag(g.Name)
	var newest *ship.PointRecord
	for i, r := range o.view.Points {
		if r.GroupTag == tag && (newest == nil || o.view.Order(r.ID) > o.view.Order(newest.ID)) {
			newest = &o.view.Points[i]
		}
	}
	if newest == nil {
		return nil, nil
	}
	p, lacking, err := a.again(ctx, o, g, *newest, true)
	if err == nil && len(lacking) > 0 {
		err = fmt.Errorf("point %s: %s: %w", newest.ID, strings.Join(lacking, "; "), fs.ErrNotFound)
	}
	if p == nil {
		return nil, err
	}
	return []point.Point{*p}, err
}

// streamAgain ships what takes the place of a damaged stream.
func (a *shipping) streamAgain(ctx context.Context, o *opened, g workload.Group, p point.Point, s ship.PointStream) (ship.PointStream, error) {
	at := slices.IndexFunc(p.Datasets, func(d point.Dataset) bool { return d.GUID == s.GUID && d.Origin == s.Origin })
	if at < 0 {
		return s, fmt.Errorf("snapshot %s of dataset %s: %w", s.GUID, s.Origin, fs.ErrNotFound)
	}
	d := p.Datasets[at]
	if err := a.endUploads(ctx, o.repo, []ship.PointStream{s}); err != nil {
		return s, err // or the upload would go on with the damaged one
	}
	ref, _ := o.view.Stream(s.Stream)
	shipped, err := a.dataset(ctx, o, g, p, d, &ref)
	if err != nil {
		return s, fmt.Errorf("%s: %w", d.Dataset, err)
	}
	shipped.Repository = o.name
	o.why[shipped.Stream] = *shipped
	return o.placed[shipped.Stream], nil
}

// tellLost writes down which lost points were shipped again, so that they are no
// loss any more, and says which are lost for good.
func (a *shipping) tellLost(ctx context.Context, o *opened, g workload.Group) error {
	tag := o.repo.GroupTag(g.Name)
	var there []int64
	var lost []error
	for _, r := range o.view.Lost() {
		switch _, kept := o.view.Point(r.ID); {
		case kept:
			there = append(there, r.Number)
		case r.GroupTag == tag:
			lost = append(lost, fmt.Errorf("point %s, number %d in repository %s, is gone from there although no record says that it was removed, and its snapshots are not here any more", r.ID, r.Number, o.name))
		}
	}
	if len(there) > 0 {
		if err := o.repo.Absent(ctx, o.view, there); err != nil {
			return err
		}
	}
	if len(lost) == 0 || a.lossAccepted {
		return nil
	}
	return advice.In(advice.Damaged, errors.Join(lost...))
}

// unhealed is the error while kept points of a group cannot be restored whole.
func (a *shipping) unhealed(o *opened, g workload.Group) error {
	ill := illPoints(o, g.Name)
	if len(ill) == 0 {
		return nil
	}
	err := fmt.Errorf("%s of group %s cannot be restored whole from repository %s: damaged, and not to be healed from this host; the oldest is %s",
		plural(len(ill), "kept point", "kept points"), g.Name, o.name, ill[0].ID)
	return advice.With(advice.In(advice.Damaged, err), "see what is damaged with snapd verify; what is lost for good goes with snapd drop")
}
