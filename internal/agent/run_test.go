package agent

import (
	"context"
	"errors"
	"testing"

	"snapd/internal/advice"
)

// TestARunSaysWhenItsPointsAreTaken: from then on it can be cancelled, and says what is
// left for another process. While they are being taken, or when one was not, it says
// nothing.
func TestARunSaysWhenItsPointsAreTaken(t *testing.T) {
	all := Steps{Snapshot: true, Ship: true, Prune: true}
	b := newBench(t, "", "main")
	taken := 0
	ctx, cancel := context.WithCancel(t.Context())
	b.Taken = func() {
		taken++
		cancel() // another agent takes over
	}
	done, err := b.Do(ctx, []string{"shop"}, all)
	if taken != 1 || len(done.Points) != 1 || done.Left != (Steps{Ship: true, Prune: true}) || !errors.Is(err, context.Canceled) {
		t.Errorf("told %d times; %d points, left %+v, %v", taken, len(done.Points), done.Left, err)
	}
	if v := b.view("main"); len(v.Points) != 0 {
		t.Errorf("%d points were shipped after the end", len(v.Points))
	}
	b.Taken = func() { taken++ }
	done, err = b.Do(t.Context(), []string{"shop"}, done.Left)
	if v := b.view("main"); err != nil || taken != 1 || len(v.Points) != 1 || done.Left.Any() {
		t.Errorf("told %d times; %d points in the repository, left %+v, %v", taken, len(v.Points), done.Left, err)
	}
	if _, err := b.Do(t.Context(), []string{"shop", "no such group"}, all); err == nil || taken != 1 {
		t.Errorf("told %d times, of a call that was wrong: %v", taken, err)
	}
}

// TestKnownGroups: what the configuration names, and no more.
func TestKnownGroups(t *testing.T) {
	b := newBench(t, "")
	if err := b.Known(t.Context(), []string{"shop"}); err != nil {
		t.Error(err)
	}
	if err := b.Known(t.Context(), []string{"shop", "made-up"}); !errors.Is(err, advice.Usage) {
		t.Errorf("a group that was made up: %v", err)
	}
}
