package doctor

import (
	"context"
	"fmt"
	"strings"
	"time"
)

// Limits of what is said of a change of the clock.
const (
	changesAhead = 366 * 24 * time.Hour // how far ahead changes are looked for
	muchLater    = 2 * time.Hour        // a run that comes no later than that is not told
)

// elapses says when a calendar expression elapses next, by systemd's own arithmetic.
type elapses func(ctx context.Context, calendar string, after time.Time, n int) ([]time.Time, error)

// remembering asks once for groups that have one schedule. It is nil when ask is.
func remembering(ask elapses) elapses {
	if ask == nil {
		return nil
	}
	type question struct {
		calendar string
		after    time.Time
		n        int
	}
	known := map[question][]time.Time{}
	return func(ctx context.Context, calendar string, after time.Time, n int) ([]time.Time, error) {
		q := question{calendar, after.UTC(), n}
		if all, asked := known[q]; asked {
			return all, nil
		}
		all, err := ask(ctx, calendar, after, n)
		if err == nil {
			known[q] = all
		}
		return all, err
	}
}

// summerTime tells what becomes of a schedule where the clock is changed: systemd
// leaves out a time that the clock skips, so that a daily run comes a day later.
// Of times that the clock has twice it takes the first, but for a timer that is
// started in between: what it says here is asked, and not assumed.
func summerTime(ctx context.Context, ask elapses, group, calendar string, now time.Time, zone *time.Location) []Check {
	if ask == nil {
		return nil
	}
	plain, zone := withoutZone(calendar, zone)
	var out []Check
	for _, c := range changes(now, zone) {
		if lost, next, ok := c.skips(ctx, ask, plain, calendar); ok {
			out = append(out, Check{
				Check: "timer of " + group, Level: Warn,
				Why: fmt.Sprintf("%q: the clock skips %s on %s (summer time), and systemd leaves that run out: the next one is at %s", calendar, lost.Format("15:04"), lost.Format("2006-01-02"), next.In(zone).Format("2006-01-02 15:04")),
				Do:  doAboutClock,
			})
		}
		if first, again, ok := c.repeats(ctx, ask, calendar); ok {
			out = append(out, Check{
				Check: "timer of " + group, Level: Warn,
				Why: fmt.Sprintf("%q: the clock has %s twice on %s (end of summer time), and systemd runs it both times, at %s and %s UTC", calendar, first.In(zone).Format("15:04"), first.In(zone).Format("2006-01-02"), first.UTC().Format("15:04"), again.UTC().Format("15:04")),
				Do:  doAboutClock,
			})
		}
	}
	return out
}

const doAboutClock = "write an hour that the clock always has once, such as 04:30, or add UTC to the schedule"

// withoutZone takes the time zone off the end of a schedule, and returns it, or else the
// host's.
func withoutZone(calendar string, host *time.Location) (string, *time.Location) {
	i := strings.LastIndexByte(calendar, ' ')
	last := calendar[i+1:]
	if last != "UTC" && !strings.Contains(last, "/") || strings.ContainsAny(last, ":*") {
		return calendar, host
	}
	zone, err := time.LoadLocation(last)
	if err != nil || i < 0 {
		return calendar, host
	}
	return calendar[:i], zone
}

// change is one change of a zone's clock.
type change struct {
	at      time.Time     // the first moment of the new time
	forward time.Duration // by which the clock is put forward, less than 0 when it is put back
}

// changes are those of the time that is looked ahead.
func changes(now time.Time, zone *time.Location) []change {
	var out []change
	for t := now.In(zone); ; {
		_, end := t.ZoneBounds()
		if end.IsZero() || end.Sub(now) > changesAhead {
			return out
		}
		_, before := end.Add(-time.Second).Zone()
		_, after := end.Zone()
		if before != after {
			out = append(out, change{at: end, forward: time.Duration(after-before) * time.Second})
		}
		t = end
	}
}

// skips tells whether a schedule names a time that the clock does not have at this
// change, as the clock would have shown it, and whether the next run comes much
// later for it.
func (c change) skips(ctx context.Context, ask elapses, plain, calendar string) (lost, next time.Time, ok bool) {
	if c.forward <= 0 {
		return lost, next, false
	}
	// The clock went on as before, in a zone that has no changes: what it shows is
	// written as a time in UTC.
	_, offset := c.at.Add(-time.Second).Zone()
	wall := c.at.Add(time.Duration(offset) * time.Second).UTC()
	would, err := ask(ctx, plain+" UTC", wall.Add(-time.Second), 1)
	if err != nil || len(would) == 0 || !would[0].Before(wall.Add(c.forward)) {
		return lost, next, false
	}
	will, err := ask(ctx, calendar, c.at.Add(-time.Second), 1)
	if err != nil || len(will) == 0 {
		return lost, next, false
	}
	lost, next = would[0].UTC(), will[0]
	return lost, next, next.Sub(c.at.Add(lost.Sub(wall))) > muchLater
}

// repeats tells whether a schedule runs at both moments that the clock shows alike
// at this change, and does not run about every hour anyway.
func (c change) repeats(ctx context.Context, ask elapses, calendar string) (first, again time.Time, ok bool) {
	if c.forward >= 0 {
		return first, again, false
	}
	twice := -c.forward
	all, err := ask(ctx, calendar, c.at.Add(-twice-time.Second), 3)
	if err != nil || len(all) < 2 {
		return first, again, false
	}
	often := len(all) > 2 && all[2].Sub(all[1]) <= muchLater
	return all[0], all[1], all[0].Before(c.at) && all[1].Equal(all[0].Add(twice)) && !often
}
