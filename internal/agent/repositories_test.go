package agent

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"snapd/internal/advice"
	"snapd/internal/config"
	"snapd/internal/point"
	"snapd/internal/ship"
)

// Two groups, of which the first one's repository does not answer for as long as it
// is tried: the other one is shipped meanwhile, and the repository is waited for
// once, by one line.
func TestARepositoryThatDoesNotAnswerHoldsUpItsOwnGroupsOnly(t *testing.T) {
	b := newBench(t, "repositories = [\"away\"]", "away", "main")
	_, err := b.storage.Add(b.path("wiki"))
	b.check(err)
	b.Config.Groups["wiki"] = config.Settings{Paths: []string{b.path("wiki")}, Repositories: []string{"main"}}
	open, asked := b.Open, 0
	b.Open = func(ctx context.Context, r config.Repository, report Report) (*ship.Repository, error) {
		if r.Name != "away" {
			return open(ctx, r, report)
		}
		asked++
		for !b.shipped("wiki") && ctx.Err() == nil {
			time.Sleep(time.Millisecond)
		}
		return nil, ship.ErrUnavailable
	}
	ctx, enough := context.WithTimeout(t.Context(), time.Minute) // so that a failure ends too
	defer enough()
	done, err := b.Do(ctx, []string{"shop", "wiki"}, Steps{Snapshot: true, Ship: true, Prune: true})
	if !errors.Is(err, advice.Partial) || len(done.Points) != 2 || strings.Count(err.Error(), "away") != 1 {
		t.Errorf("%d points, %v", len(done.Points), err)
	}
	if asked != 1 {
		t.Errorf("it was waited for %d times", asked)
	}
	st, err := b.Status(t.Context())
	b.check(err)
	if shop := st.Groups[0]; len(shop.Attention) != 1 || !strings.HasPrefix(shop.Attention[0], "1 restore point is not shipped: the last ship failed: ") {
		t.Errorf("status says of shop %q", shop.Attention)
	}
}

// shipped tells whether the repository main has a point of a group.
func (b *bench) shipped(group string) bool {
	points, err := b.record.All()
	return err == nil && slices.ContainsFunc(points, func(p point.Point) bool { return p.Group == group && p.InRepository("main") })
}

// A group that cannot be used, of several that are named, is an error of its own; a
// name that no group has is one of the call.
func TestAGroupThatCannotBeUsedKeepsNoOtherBack(t *testing.T) {
	b := newBench(t, "", "main")
	b.Config.Groups["broken"] = config.Settings{}
	done, err := b.Do(t.Context(), []string{"broken", "shop"}, Steps{Snapshot: true, Ship: true, Prune: true})
	if !errors.Is(err, advice.Partial) || errors.Is(err, advice.Usage) || len(done.Points) != 1 || !done.Points[0].InRepository("main") {
		t.Fatalf("%d points, %v", len(done.Points), err)
	}
	if strings.Count(err.Error(), "group broken cannot be used") != 1 || advice.Of(err) == "" {
		t.Errorf("not said once and with advice: %v", err)
	}
	for _, names := range [][]string{{"broken"}, {"shop", "shpo"}} {
		if points, err := b.Snapshot(t.Context(), names); len(points) > 0 || !errors.Is(err, advice.Usage) {
			t.Errorf("%v: %d points, %v", names, len(points), err)
		}
	}
}
