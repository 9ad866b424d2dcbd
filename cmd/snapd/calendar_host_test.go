//go:build host

package main

import (
	"testing"
	"time"
)

// TestWhatSystemdDoesInSummerTime is what doctor is built on: a time that the clock skips
// is left out, and of two that it shows alike the first is taken.
func TestWhatSystemdDoesInSummerTime(t *testing.T) {
	t.Setenv("TZ", "Europe/Berlin")
	for _, c := range []struct{ calendar, after, want string }{
		{"02:30", "2027-03-27T12:00:00Z", "2027-03-29T00:30:00Z"},
		{"02:30 UTC", "2027-03-28T01:59:59Z", "2027-03-28T02:30:00Z"},
		{"02:30", "2026-10-24T12:00:00Z", "2026-10-25T00:30:00Z"},
		{"02:30", "2026-10-25T00:30:00Z", "2026-10-26T01:30:00Z"},
		{"*:30", "2027-03-28T00:30:00Z", "2027-03-28T01:30:00Z"},
	} {
		after, err := time.Parse(time.RFC3339, c.after)
		if err != nil {
			t.Fatal(err)
		}
		got, err := nextElapses(t.Context(), c.calendar, after, 1)
		if err != nil || len(got) != 1 || got[0].Format(time.RFC3339) != c.want {
			t.Errorf("%s after %s: %v, %v; want %s", c.calendar, c.after, got, err, c.want)
		}
	}
}
