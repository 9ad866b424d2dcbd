package agent

import (
	"testing"
)

// TestWhatAKilledSnapdLeft: holds and hooks of a process that is gone are ended,
// those of a living one are not.
func TestWhatAKilledSnapdLeft(t *testing.T) {
	a := &Agent{Options: Options{Run: "/run/snapd-agent"}}
	lives, err := a.hookMark()
	if err != nil {
		t.Fatal(err)
	}
	holds, err := holdMark()
	if err != nil {
		t.Fatal(err)
	}
	for mark, want := range map[string]bool{
		lives: false, holds: false,
		"hook-99999999-1" + hookEnd + a.kin() + hookEnd + "X":   true,
		"hook-99999999-1" + hookEnd + "another" + hookEnd + "X": false, // of a snapd that does not share our locks
		"hold-99999999-1": true,
		"hook-X":          false, // of an older snapd
		"99999999-1":      false,
	} {
		if a.orphaned(mark) != want {
			t.Errorf("%q: %v", mark, !want)
		}
	}
}
