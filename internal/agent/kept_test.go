package agent

import (
	"context"
	"errors"
	"testing"

	"snapd/internal/config"
	"snapd/internal/workload"
)

// TestPointsOfAGroupWithoutContainers are shown with their times, shipped and
// pruned: after "docker compose down" nothing runs, and an engine that hangs
// says nothing.
func TestPointsOfAGroupWithoutContainers(t *testing.T) {
	b := newBench(t, "keep = \"1 last\"\nkeep-local = \"1h\"", "main")
	b.take()
	b.ship()
	b.take()
	shop := b.Config.Groups["shop"]
	for _, c := range []struct { // in this order: the first one ships
		name   string
		broken func()
	}{
		{"the project is gone", func() {
			gone := shop
			gone.Paths, gone.ComposeProject = nil, new("shop")
			b.Config.Groups["shop"] = gone
		}},
		{"the engine hangs", func() {
			b.Engine = func(context.Context) (*workload.Engine, error) { return nil, errors.New("the engine does not answer") }
		}},
	} {
		name, before, engine := c.name, b.Config.Groups["shop"], b.Engine
		c.broken()
		if name == "the project is gone" {
			st, err := b.Status(t.Context())
			b.check(err)
			if g := st.Groups[0]; g.NewestLocal == nil || g.NewestShipped == nil || g.NewestShipped.Equal(*g.NewestLocal) {
				t.Errorf("%s: status: %+v", name, g)
			}
		}
		if _, err := b.Ship(t.Context(), []string{"shop"}); err != nil {
			t.Errorf("%s: ship: %v", name, err)
		}
		if pruned, err := b.Prune(t.Context(), []string{"shop"}, true); err != nil || len(pruned.Keep) == 0 {
			t.Errorf("%s: prune: %+v, %v", name, pruned, err)
		}
		b.Config.Groups["shop"], b.Engine = before, engine
	}
	if v := b.view("main"); len(v.Points) != 2 {
		t.Errorf("%d points were shipped, want 2", len(v.Points))
	}
	// No configuration makes it: what waits is shipped, and no policy of another
	// group removes anything.
	b.take()
	delete(b.Config.Groups, "shop")
	b.Config.Groups["other"] = config.Settings{Paths: shop.Paths}
	if _, err := b.Ship(t.Context(), nil); err != nil {
		t.Errorf("ship of a group that is gone: %v", err)
	}
	if v := b.view("main"); len(v.Points) != 3 {
		t.Errorf("%d points were shipped, want 3", len(v.Points))
	}
	if _, err := b.Prune(t.Context(), []string{"shop"}, true); !errors.Is(err, workload.ErrNoGroup) {
		t.Errorf("prune of a group that is gone: %v", err)
	}
}
