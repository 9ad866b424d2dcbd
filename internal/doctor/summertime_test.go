package doctor

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"
)

// likeSystemd elapses at minutes of each day, as systemd 252 does: a time that the
// clock skips is left out, and one that it has twice is taken once, unless both.
func likeSystemd(zone *time.Location, both bool, minutes ...int) elapses {
	return func(_ context.Context, calendar string, after time.Time, n int) (out []time.Time, err error) {
		in := zone
		if strings.HasSuffix(calendar, " UTC") {
			in = time.UTC
		}
		after = after.In(in)
		for day := 0; len(out) < n; day++ {
			for _, m := range minutes {
				y, month, d := after.AddDate(0, 0, day).Date()
				at := time.Date(y, month, d, m/60, m%60, 0, 0, in)
				if at.Hour() != m/60 {
					continue // skipped
				}
				if first := at.Add(-time.Hour); first.Hour() == m/60 {
					at = first
				}
				for i, one := range []time.Time{at, at.Add(time.Hour)} {
					if one.After(after) && len(out) < n && (i == 0 || both && one.Hour() == m/60) {
						out = append(out, one)
					}
				}
			}
		}
		return out, nil
	}
}

// TestSchedulesInTheHourOfSummerTime are named with what systemd makes of them, and no
// others.
func TestSchedulesInTheHourOfSummerTime(t *testing.T) {
	berlin, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Fatal(err)
	}
	var hourly []int
	for h := range 24 {
		hourly = append(hourly, h*60+30)
	}
	now := time.Date(2026, 11, 26, 12, 0, 0, 0, time.UTC)
	const skipped = "the clock skips 02:30 on 2027-03-28 (summer time), and systemd leaves that run out: the next one is at 2027-03-29 02:30"
	for name, c := range map[string]struct {
		calendar string
		host     *time.Location
		both     bool
		minutes  []int
		want     []string
	}{
		"in the hour":              {"02:30", berlin, false, []int{150}, []string{skipped}},
		"before it":                {"01:59", berlin, false, []int{119}, nil},
		"after it":                 {"03:00", berlin, false, []int{180}, nil},
		"every hour":               {"*:30", berlin, false, hourly, nil},
		"every hour, both times":   {"*:30", berlin, true, hourly, nil},
		"in UTC":                   {"02:30 UTC", berlin, false, []int{150}, nil},
		"on a host in UTC":         {"02:30", time.UTC, false, []int{150}, nil},
		"in a zone of its own":     {"02:30 Europe/Berlin", time.UTC, false, []int{150}, []string{skipped}},
		"a systemd that runs both": {"02:30", berlin, true, []int{150}, []string{skipped, "the clock has 02:30 twice on 2027-10-31 (end of summer time), and systemd runs it both times, at 00:30 and 01:30 UTC"}},
	} {
		zone := berlin
		if c.host == time.UTC && !strings.Contains(c.calendar, "Berlin") {
			zone = time.UTC
		}
		var got []string
		for _, check := range summerTime(t.Context(), likeSystemd(zone, c.both, c.minutes...), "shop", c.calendar, now, c.host) {
			if check.level() != Warn || check.Check != "timer of shop" || check.Do == "" {
				t.Errorf("%s: %+v", name, check)
			}
			got = append(got, check.Why)
		}
		if len(got) != len(c.want) {
			t.Errorf("%s: got %q", name, got)
			continue
		}
		for i, w := range c.want {
			if got[i] != fmt.Sprintf("%q: %s", c.calendar, w) {
				t.Errorf("%s: got %q", name, got[i])
			}
		}
	}
}

// TestChangesOfTheClock: those of a year, and half an hour too.
func TestChangesOfTheClock(t *testing.T) {
	now := time.Date(2026, 11, 26, 12, 0, 0, 0, time.UTC)
	for name, want := range map[string]string{"Europe/Berlin": "[1h0m0s -1h0m0s]", "Australia/Lord_Howe": "[-30m0s 30m0s]", "Asia/Tokyo": "[]", "UTC": "[]"} {
		zone, err := time.LoadLocation(name)
		if err != nil {
			t.Fatal(err)
		}
		got := []time.Duration{}
		for _, c := range changes(now, zone) {
			got = append(got, c.forward)
		}
		if fmt.Sprint(got) != want {
			t.Errorf("%s: %v", name, got)
		}
	}
}
