package agent

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"snapd/internal/advice"
	"snapd/internal/point"
	"snapd/internal/ship"
)

// Pinned says where points are kept whatever retention says, or not any more.
type Pinned struct {
	Pinned   []Place `json:"pinned"`
	Unpinned []Place `json:"unpinned"`
}

// Place is a point in a repository.
type Place struct {
	ID         point.ID `json:"id"`
	Repository string   `json:"repository"`
}

// Pin keeps points in the repositories that have them until they are unpinned:
// neither retention nor Drop removes them. It is signed, so that it counts for
// all who prune there.
func (a *Agent) Pin(ctx context.Context, points []string) (Pinned, error) {
	return a.pin(ctx, points, true)
}

// Unpin ends Pin.
func (a *Agent) Unpin(ctx context.Context, points []string) (Pinned, error) {
	return a.pin(ctx, points, false)
}

func (a *Agent) pin(ctx context.Context, wanted []string, pin bool) (Pinned, error) {
	out := Pinned{Pinned: []Place{}, Unpinned: []Place{}}
	names := a.repositoryNames("")
	if len(names) == 0 {
		return out, advice.In(NoRepository, advice.Usagef("no repository is configured, and points are pinned in repositories"))
	}
	met := make([]bool, len(wanted))
	var faults []error
	for _, name := range names {
		if err := a.pinIn(ctx, name, wanted, pin, &out, met); err != nil {
			faults = append(faults, fmt.Errorf("repository %s: %w", name, err))
		}
	}
	for i, found := range met {
		if !found && len(faults) == 0 {
			faults = append(faults, fmt.Errorf("%q: %w in a repository", wanted[i], ErrNotThere))
		}
	}
	err := errors.Join(faults...)
	if len(out.Pinned)+len(out.Unpinned) > 0 {
		err = advice.In(advice.Partial, err)
	}
	return out, err
}

// pinIn pins those of the points that one repository has.
func (a *Agent) pinIn(ctx context.Context, name string, wanted []string, pin bool, out *Pinned, met []bool) error {
	repo, view, cache, err := a.openView(ctx, name, ship.Known)
	if err != nil {
		return err
	}
	defer cache.Close() //nolint:errcheck // what it could not write is read again
	points, err := a.verifiable(name, repo, view, nil)
	if err != nil {
		return err
	}
	var ids []point.ID
	for i, w := range wanted {
		p, err := matchIn(points, w, map[string]*ship.View{name: view}, a.Now())
		if err != nil && !errors.Is(err, ErrNotThere) {
			return err // it begins several ids
		}
		met[i] = met[i] || err == nil
		if err == nil && !slices.Contains(ids, p.ID) {
			ids = append(ids, p.ID)
		}
	}
	if len(ids) == 0 {
		return nil
	}
	list := &out.Unpinned
	if !pin {
		// What is not pinned is not unpinned; the ledger need not say it.
		ids = slices.DeleteFunc(ids, func(id point.ID) bool { return !view.Pinned(id) })
	}
	if pin {
		list, err = &out.Pinned, repo.Pin(ctx, view, ids)
	} else {
		err = repo.Unpin(ctx, view, ids)
	}
	if err != nil {
		return err
	}
	for _, id := range ids {
		*list = append(*list, Place{ID: id, Repository: name})
	}
	return nil
}
