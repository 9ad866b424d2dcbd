package agent

import (
	"context"
	"strings"
	"testing"
	"time"
)

// TestStatusTellsWhatIsLate by the schedule's own times, and what is wrong with
// the timer.
func TestStatusTellsWhatIsLate(t *testing.T) {
	b := newBench(t, "schedule = \"hourly\"")
	b.Elapses = func(_ context.Context, calendar string, after time.Time, n int) ([]time.Time, error) {
		if calendar != "hourly" {
			t.Errorf("asked for %q", calendar)
		}
		var all []time.Time
		for at := after.Truncate(time.Hour).Add(time.Hour); len(all) < n; at = at.Add(time.Hour) {
			all = append(all, at)
		}
		return all, nil
	}
	b.TimerTrouble = func(_ context.Context, group string) string { return "snapd-agent-run@" + group + ".timer is masked" }
	b.now = time.Date(2026, 11, 26, 12, 30, 0, 0, time.UTC)
	b.take() // at 13:30
	for _, c := range []struct {
		after time.Duration
		late  bool
	}{
		{0, false},
		{time.Hour, false},                       // one was missed, and may be on its way
		{90*time.Minute + 10*time.Minute, false}, // the second has just elapsed
		{2 * time.Hour, true},
		{72 * time.Hour, true},
	} {
		now := b.now
		b.now = b.now.Add(c.after)
		st, err := b.Status(t.Context())
		b.check(err)
		b.now = now
		g := st.Groups[0]
		if (g.Late != nil) != c.late {
			t.Errorf("%s after the point: %+v", c.after, g.Late)
		}
		if c.late && (!strings.HasPrefix(g.Attention[0], "late: ") || !strings.Contains(g.Attention[0], "timer is masked") || g.Late.Since.Hour() != 14) {
			t.Errorf("%s after the point: %q", c.after, g.Attention)
		}
	}
}
