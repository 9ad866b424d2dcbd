package agent

import (
	"context"
	"path/filepath"

	"snapd/internal/ship"
)

// openView opens a repository and looks through it.
func (a *Agent) openView(ctx context.Context, name string, look ship.Look) (*ship.Repository, *ship.View, *ship.Cache, error) {
	repo, err := a.Open(ctx, a.Config.Repositories[name], a.Report)
	if err != nil {
		return nil, nil, nil, err
	}
	var cache *ship.Cache
	if !a.OnlyRepositories {
		if cache, err = ship.OpenCache(filepath.Join(a.State, "repositories", repo.ID)); err != nil {
			a.warnOfError("", err)
		}
	}
	view, err := repo.View(ctx, cache, look)
	if err != nil {
		_ = cache.Close()
		return nil, nil, nil, err
	}
	a.noteLook(name, repo, view, cache, look)
	return repo, view, cache, nil
}
