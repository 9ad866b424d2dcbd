package agent

import (
	"context"
	"errors"
	"strings"
	"testing"

	"snapd/internal/advice"
)

// TestStatusTellsFailures: a run by a timer fails where no user looks.
func TestStatusTellsFailures(t *testing.T) {
	b := newBench(t, "", "main")
	status := func() GroupStatus {
		t.Helper()
		st, err := b.Status(t.Context())
		b.check(err)
		return st.Groups[0]
	}
	run := func() {
		_, _ = b.Do(t.Context(), []string{"shop"}, Steps{Snapshot: true, Ship: true, Prune: true})
	}
	b.storage.Fault = func(call string) error {
		if call == "Take" {
			return errors.New("no space left on device\x1b[2J")
		}
		return nil
	}
	run()
	run()
	st := status()
	if len(st.Failed) != 1 || st.Failed[0].Step != StepSnapshot || st.Failed[0].Times != 2 || !strings.Contains(st.Failed[0].What, "no space left") {
		t.Fatalf("after two failed snapshots: %+v", st.Failed)
	}
	if first := st.Attention[0]; !strings.Contains(first, "the last 2 snapshots failed") {
		t.Errorf("the first thing that status says: %q", first)
	}
	// Another step's failure is another line, and success ends each.
	b.storage.Fault, b.down["main"] = nil, true
	run()
	if st := status(); len(st.Failed) != 2 || st.Failed[0].Step != StepShip || st.Failed[1].Step != StepPrune {
		t.Errorf("with a dead repository: %+v", st.Failed)
	}
	// A call that was interrupted says nothing of the group.
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, _ = b.Ship(ctx, []string{"shop"})
	if st := status(); st.Failed[0].Times != 1 {
		t.Errorf("after an interrupted call: %+v", st.Failed)
	}
	// A point that was taken is not called failed, whatever went wrong beside it.
	b.noteOutcome(t.Context(), "shop", StepSnapshot, advice.In(advice.Partial, errors.New("container db does not run")))
	if st := status(); st.Failed[len(st.Failed)-1].String() != "the last restore point was taken, but: container db does not run" {
		t.Errorf("a point and a fault beside it: %+v", st.Failed)
	}
	b.down["main"] = false
	run()
	if st := status(); len(st.Failed) != 0 {
		t.Errorf("after a run that went well: %+v", st.Failed)
	}
}
