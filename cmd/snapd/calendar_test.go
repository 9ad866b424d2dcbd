package main

import (
	"slices"
	"testing"
	"time"
)

func TestElapses(t *testing.T) {
	const printed = `  Original form: hourly
Normalized form: *-*-* *:00:00
    Next elapse: Thu 2026-11-26 14:00:00 CET
       (in UTC): Thu 2026-11-26 13:00:00 UTC
       From now: 17min left
       Iter. #2: Thu 2026-11-26 15:00:00 CET
       (in UTC): Thu 2026-11-26 14:00:00 UTC
       From now: 1h 17min left
   Iteration #3: Thu 2026-11-26 15:00:00 UTC
       From now: 2h 17min left
`
	at := func(hour int) time.Time { return time.Date(2026, 11, 26, hour, 0, 0, 0, time.UTC) }
	if got := elapses(printed); !slices.Equal(got, []time.Time{at(13), at(14), at(15)}) {
		t.Errorf("got %v", got)
	}
	if got := elapses("  Original form: 2020-01-01\nNormalized form: 2020-01-01 00:00:00\n    Next elapse: never\n"); len(got) != 0 {
		t.Errorf("one that never comes again: %v", got)
	}
	if _, err := nextElapses(t.Context(), "--help", at(1), 2); err == nil {
		t.Error("an option passed for a calendar expression")
	}
}
