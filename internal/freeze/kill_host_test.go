//go:build host

package freeze

import (
	"encoding/json"
	"path/filepath"
	"slices"
	"testing"
)

// nths are the occurrences of a step to be killed at: it comes once for each
// member, or once.
func nths(step string, members int) []int {
	if step != StepFreezing && step != StepThawing {
		return []int{1}
	}
	if !long {
		return slices.Compact([]int{1, (members + 1) / 2, members})
	}
	var all []int
	for n := range members {
		all = append(all, n+1)
	}
	return all
}

// Killed at any step, with one and with twenty members: one call of Recover
// has every member running and leaves no journal.
func TestKilledAtEveryStep(t *testing.T) {
	for _, n := range []int{1, 20} {
		writers := newWriters(t, n, tickScript)
		counts := map[string]int{}
		for _, step := range Steps() {
			for _, nth := range nths(step, n) {
				counts[step] += killOnce(t, writers, step, nth)
			}
		}
		t.Logf("%d members: found frozen and thawed after a kill at each step: %v", n, counts)
		if counts[StepFrozen] != n || counts[StepTaken] != n {
			t.Errorf("a kill while all are frozen should leave %d of them so: %v", n, counts)
		}
		if counts[StepJournal] != 0 || counts[StepThawed] != 0 || counts[StepClosing] != 0 {
			t.Errorf("something was frozen outside the window: %v", counts)
		}
	}
}

func killOnce(t *testing.T, writers []writer, step string, nth int) (thawed int) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "run")
	input, err := json.Marshal(victim{Dir: dir, Step: step, Nth: nth, Members: members(writers)})
	if err != nil {
		t.Fatal(err)
	}
	out, err := reexec(t, "window", string(input)).CombinedOutput()
	if err == nil || err.Error() != "signal: killed" {
		t.Fatalf("%s %d: the victim was not killed: %v: %s", step, nth, err, out)
	}
	recovered, err := Recover(t.Context(), Options{Dir: dir})
	if err != nil {
		t.Fatalf("%s %d: %v", step, nth, err)
	}
	for _, r := range recovered {
		if r.Outcome == Thawed {
			thawed++
		}
	}
	for _, w := range writers {
		if frozenNow(t, w.Cgroup) {
			t.Fatalf("%s %d: %s is still frozen", step, nth, w.Name)
		}
		w.moves(t)
	}
	noJournal(t, dir)
	return thawed
}
