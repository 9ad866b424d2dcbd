package agent

import (
	"slices"
	"time"

	"snapd/internal/point"
	"snapd/internal/retain"
	"snapd/internal/ship"
)

// What is kept on this host only as the base of increments would be kept for ever
// where none is built on it any more. It is let go when
//
//   - the next ship would not build on it: the recipients changed, full-every is
//     over, its chain has MaxDepth;
//   - it is one that is skipped to, and older than skipAge;
//   - no more points of its dataset are to be expected.
//
// The price of a mistake is one full stream.

const (
	// skipAge is how long a base that keeps chains short stays, if it is not the
	// newest: an hourly group skips to ones of eleven days ago.
	skipAge = 60 * 24 * time.Hour
	// leftAge is how long a dataset that no point has any more may come back: a
	// disk that was not mounted, a service that was taken away for a while.
	leftAge = 30 * 24 * time.Hour
)

// bases are the guids of the snapshots of a dataset that increments in a
// repository will want to find here, of those that are here.
func (h *pruneHere) bases(name, origin string, streams []ship.StreamRef) map[string]bool {
	if h.taken != nil && !h.taken[origin] {
		return nil
	}
	if o := h.repos.answered(name); o != nil {
		for _, f := range h.agent.baseFilters(o, h.group) {
			streams = slices.DeleteFunc(streams, func(s ship.StreamRef) bool { return !f.fit(s) })
		}
	}
	return retain.Needed(chainOf(streams), h.agent.Now().Add(-skipAge))
}

// answered is a repository that is open, nil when it is not. It may be called on
// nil.
func (r *repositories) answered(name string) *opened {
	if r == nil || r.all[name] == nil || !r.all[name].isDone() {
		return nil
	}
	return r.all[name].opened
}

// takenStill are the origins of the datasets that more points are to be expected
// of: those that the newest point of a group has or lacks until a user accepts
// that, and those that a point had lately. former is a group that is gone for
// good, and whose points do not count. It is nil when not all points can be read:
// then there are more of every dataset.
func (a *Agent) takenStill(former string) map[string]bool {
	points, err := a.record.All()
	if err != nil || a.OnlyRepositories {
		return nil
	}
	out := map[string]bool{}
	newest := map[string]point.Point{}
	for _, p := range points {
		if p.Group == former {
			continue
		}
		if last, there := newest[p.Group]; !there || newestOf([]point.Point{last, p}, nil, a.Now()).ID == p.ID {
			newest[p.Group] = p
		}
		if a.Now().Sub(p.Time) < leftAge {
			addOrigins(out, p)
		}
	}
	for group, p := range newest {
		addOrigins(out, p)
		for _, c := range a.acceptedOf(group).open(p.Changed) {
			out[c.Was.Origin] = true
		}
	}
	return out
}

func addOrigins(to map[string]bool, p point.Point) {
	for _, d := range p.Datasets {
		to[d.Origin] = true
	}
}
