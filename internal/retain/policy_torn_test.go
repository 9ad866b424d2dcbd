package retain

import (
	"testing"
	"time"

	"snapd/internal/point"
)

func TestWhatCannotBeRestoredTakesNoPlace(t *testing.T) {
	now := time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)
	at := func(hours int, torn bool) Candidate {
		when := now.Add(-time.Duration(hours) * time.Hour)
		return Candidate{ID: point.NewID(when), Time: when, Torn: torn}
	}
	for _, c := range []struct {
		name   string
		policy Policy
		points []Candidate
		keep   []bool
	}{
		{"last", Policy{Last: 2}, []Candidate{at(1, false), at(2, true), at(3, true), at(4, false), at(5, false)}, []bool{true, true, false, true, false}},
		{"the newest of a day is damaged", Policy{Daily: 1}, []Candidate{at(1, true), at(2, false), at(3, false)}, []bool{true, true, false}},
		{"all are", Policy{Last: 1}, []Candidate{at(1, true), at(2, true)}, []bool{true, false}},
	} {
		got, err := Apply(c.policy, c.points, now)
		if err != nil {
			t.Fatal(err)
		}
		for i, d := range got {
			if d.Keep != c.keep[i] {
				t.Errorf("%s: point %d: %+v, want %v", c.name, i, d, c.keep[i])
			}
		}
	}
}
