package agent

import (
	"testing"
)

// TestWhatAKilledSnapdLeft: holds and hooks of a process that is gone are ended,
// those of a living one are not.
func TestWhatAKilledSnapdLeft(t *testing.T) {
	lives, err := hookMark()
	if err != nil {
		t.Fatal(err)
	}
	holds, err := holdMark()
	if err != nil {
		t.Fatal(err)
	}
	for mark, want := range map[string]bool{
		lives: false, holds: false,
		"hook-99999999-1" + hookEnd + "X": true,
		"hold-99999999-1":                 true,
		"hook-X":                          false, // of an older snapd
		"99999999-1":                      false,
	} {
		if orphaned(mark) != want {
			t.Errorf("%q: %v", mark, !want)
		}
	}
}
