package agent

import (
	"context"
	"errors"
	"slices"

	"snapd/internal/fs"
	"snapd/internal/point"
	"snapd/internal/ship"
)

// tidy removes bookmarks and holds that nothing needs any more from the
// datasets of a group's points.
func (h *pruneHere) tidy(ctx context.Context, points []point.Point) error {
	var faults []error
	seen := map[string]bool{}
	for _, p := range points {
		for _, d := range p.Datasets {
			driver, err := h.agent.driver(d.Driver)
			m, ok := driver.(fs.Bookmarker)
			if err != nil || !ok || seen[d.Origin] || h.dryRun {
				continue
			}
			seen[d.Origin] = true
			removed, err := h.tidyDataset(ctx, m, datasetOf(d))
			for _, r := range removed {
				h.agent.step(h.group.Name, "removed %s, which nothing needs any more", r)
			}
			faults = append(faults, err)
		}
	}
	return errors.Join(faults...)
}

// tidyDataset keeps a bookmark as long as any repository lists its stream, and
// everything while one does not answer. A hold is kept while its ship runs or
// is to be continued.
func (h *pruneHere) tidyDataset(ctx context.Context, m fs.Bookmarker, dataset fs.Dataset) (_ []string, err error) {
	a := h.agent
	active, err := a.records.Active()
	if err != nil {
		return nil, err
	}
	locks := map[string]*lock{}
	defer func() {
		for _, l := range locks {
			if l != nil {
				err = errors.Join(err, l.release())
			}
		}
	}()
	idle := func(purpose string) bool {
		if _, asked := locks[purpose]; !asked {
			locks[purpose], _ = a.tryLock("ship-"+purpose+"-"+dataset.GUID, "the ship of "+dataset.Name)
		}
		return locks[purpose] != nil
	}
	return m.Tidy(ctx, dataset, func(guid string) bool { return h.listsStream(dataset.GUID, guid) }, func(purpose, _ string) bool {
		unfinished := slices.ContainsFunc(active, func(r ship.RecordHead) bool { return r.Repository == purpose && r.Origin == dataset.GUID })
		return unfinished || !idle(purpose)
	})
}

// listsStream tells whether a repository has, or may have, the stream of a
// snapshot.
func (h *pruneHere) listsStream(origin, guid string) bool {
	if len(h.views) < len(h.agent.Config.Repositories) {
		return true
	}
	for _, view := range h.views {
		if _, there := view.BySnapshot(origin, guid); there {
			return true
		}
	}
	return false
}
