package agent

import (
	"context"
	"fmt"
	"slices"

	"snapd/internal/point"
	"snapd/internal/ship"
)

// remedies say what can be done about what is wrong in a repository, and whether this
// host can do it. They change nothing.
func (a *Agent) remedies(ctx context.Context, name string, view *ship.View) (do []string) {
	ill, here := a.healable(ctx, view)
	switch {
	case ill == 0:
	case here == ill:
		do = append(do, fmt.Sprintf("run: snapd repair %s, which ships anew what is damaged or lost: its snapshots are all on this host", name))
	case here > 0:
		do = append(do, fmt.Sprintf("run: snapd repair %s, which ships anew %d of %s that are damaged or lost; the snapshots of the others are not on this host: run it on one that has them, or count on other points than those named above, and remove what is lost with snapd drop", name, here, plural(ill, "stream", "streams")))
	default:
		do = append(do, "count on other points than those named above: nothing of what is damaged or lost has its snapshot on this host; snapd repair heals it on a host that has, and snapd drop removes what is lost for good")
	}
	if n := len(view.Broken()); n > 0 {
		do = append(do, fmt.Sprintf("run: snapd repair %s, which puts %s of the ledger back as this host remembers", name, plural(n, "event", "events")))
	}
	settles := len(view.Junk())+len(view.LostEvents()) > 0 || slices.ContainsFunc(view.Problems, func(p ship.Problem) bool {
		return p.Kind == ship.KindMissing || p.Kind == ship.KindRolledBack || p.Kind == ship.KindLease
	})
	if settles {
		do = append(do, fmt.Sprintf("see what snapd repair %s says of what no record explains: nothing is removed there before that is settled", name))
	}
	return do
}

// healable counts the streams of kept or lost points that cannot be read, and those of
// them that this host has the snapshots of.
func (a *Agent) healable(ctx context.Context, view *ship.View) (ill, here int) {
	seats := pruneHere{agent: a}
	seen := map[point.ID]bool{}
	count := func(r ship.PointRecord, all bool) {
		p, err := a.record.Get(r.ID)
		if err != nil {
			p = pointOf(r)
		}
		for _, s := range r.Streams {
			if seen[s.Stream] || !all && view.Whole(s.Stream) {
				continue
			}
			seen[s.Stream] = true
			ill++
			i := slices.IndexFunc(p.Datasets, func(d point.Dataset) bool { return d.GUID == s.GUID && d.Origin == s.Origin })
			if i < 0 {
				continue
			}
			if at, err := seats.seat(ctx, p.Datasets[i]); err == nil && at.snap != nil {
				here++
			}
		}
	}
	for _, r := range view.Points {
		count(r, false)
	}
	for _, r := range lostPoints(view) {
		count(r, true)
	}
	return ill, here
}
