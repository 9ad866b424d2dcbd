package agent

import (
	"context"
	"errors"
	"path/filepath"
	"slices"

	"snapd/internal/point"
	"snapd/internal/ship"
)

// opened is a repository with what was read of it. It is used by one goroutine
// at a time.
type opened struct {
	name  string
	repo  *ship.Repository
	view  *ship.View
	cache *ship.Cache // nil: this call remembers nothing

	// placed are the streams that this process committed, for the points that
	// will name them: so that their manifests are not read again.
	placed map[point.ID]ship.PointStream
	why    map[point.ID]point.Shipped // of the same streams, what the local record says of them
	noted  bool                       // damage was noted since it was opened, or since it was last healed
	ending func(*opened)
}

// close may be called on nil.
func (o *opened) close() error {
	if o == nil {
		return nil
	}
	o.ending(o)
	return o.cache.Close()
}

// again reads what was put since.
func (o *opened) again(ctx context.Context, look ship.Look) error {
	view, err := o.repo.View(ctx, o.cache, look)
	if err == nil {
		o.view = view
	}
	return err
}

// has tells whether a stream that was shipped before is there and can be read.
// One that no kept point needs is asked for: what this host remembers of it
// proves nothing.
func (o *opened) has(ctx context.Context, stream point.ID) (bool, error) {
	if _, ours := o.placed[stream]; ours {
		return true, nil
	}
	ref, known := o.view.Stream(stream)
	if !known || !o.view.Whole(stream) {
		return false, nil
	}
	if slices.ContainsFunc(o.view.Streams(), func(s ship.StreamRef) bool { return s.ID == stream }) {
		return true, nil
	}
	_, err := o.repo.Manifest(ctx, ref)
	if errors.Is(err, ship.ErrNotFound) || errors.Is(err, ship.ErrDamaged) || errors.Is(err, ship.ErrSignature) {
		return false, nil
	}
	return err == nil, err
}

// openView opens a repository and reads what it holds. The caller closes the
// cache, which is nil when the user looks at a repository that is not this
// host's. What the view has to tell is told.
func (a *Agent) openView(ctx context.Context, name string, look ship.Look) (*ship.Repository, *ship.View, *ship.Cache, error) {
	return a.openViewBy(ctx, name, look, a.Open)
}

// openToRead is openView for an operation that only reads: what was deleted is
// read where the store still has it, and that is a problem of the view.
func (a *Agent) openToRead(ctx context.Context, name string) (*ship.Repository, *ship.View, *ship.Cache, error) {
	if a.OpenHidden == nil {
		return a.openView(ctx, name, ship.Whole)
	}
	return a.openViewBy(ctx, name, ship.Whole, a.OpenHidden)
}

func (a *Agent) openViewBy(ctx context.Context, name string, look ship.Look, open Opener) (*ship.Repository, *ship.View, *ship.Cache, error) {
	conf, known := a.Config.Repositories[name]
	if !known {
		return nil, nil, nil, a.noRepository(name)
	}
	repo, err := open(ctx, conf, a.Report)
	if err != nil {
		return nil, nil, nil, a.undescribed(err, conf)
	}
	cache, err := a.cacheOf(repo)
	if err != nil {
		return nil, nil, nil, err
	}
	a.noteDescription(name, repo)
	view, err := repo.View(ctx, cache, look)
	if err == nil && look == ship.Known && (len(view.Problems) > 0 || a.wasUnexplained(repo.ID)) {
		// What is wrong may be more than such a look sees.
		look = ship.Whole
		view, err = repo.View(ctx, cache, look)
	}
	if err != nil {
		return nil, nil, nil, errors.Join(err, cache.Close())
	}
	for _, note := range view.Notes {
		a.warn("", "repository %s: %s", name, note)
	}
	a.noteLook(name, repo, view, cache, look)
	a.noteRoom(ctx, name, repo, view)
	return repo, view, cache, nil
}

// cacheOf opens what this host remembers of a repository.
func (a *Agent) cacheOf(repo *ship.Repository) (*ship.Cache, error) {
	if a.OnlyRepositories {
		return nil, nil //nolint:nilnil // a nil cache remembers nothing
	}
	return ship.OpenCache(filepath.Join(a.State, "repositories", repo.ID))
}

// openFor is openView for an operation of several steps.
func (a *Agent) openFor(ctx context.Context, name string, look ship.Look) (*opened, error) {
	repo, view, cache, err := a.openView(ctx, name, look)
	if err != nil {
		return nil, err
	}
	// What the operation made of it is what status says from now on.
	ending := func(o *opened) { a.noteLook(o.name, o.repo, o.view, o.cache, ship.Known) }
	return &opened{name: name, repo: repo, view: view, cache: cache, placed: map[point.ID]ship.PointStream{}, why: map[point.ID]point.Shipped{}, ending: ending}, nil
}
