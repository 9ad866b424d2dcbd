// Package retain decides which points stay and which go, each with a reason, and
// which stream the next one builds on. It is pure: it changes nothing, and now
// is an argument.
package retain

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"time"

	"snapd/internal/advice"
	"snapd/internal/point"
)

// Policy says for how many hours, days, … one point each is kept, counting
// only hours, days, … that have one. Periods are those of UTC.
type Policy struct {
	Last, Hourly, Daily, Weekly, Monthly, Yearly int
}

// Candidate is a point that may stay or go.
type Candidate struct {
	ID    point.ID
	Time  time.Time
	Order int64     // place among those of its repository; clocks can be wrong, this cannot. 0: only the time is known
	Has   []Dataset // whole, for ApplyEach
	// Torn says that it cannot be restored: it is damaged, or a part is gone.
	Torn bool
}

// Decision says what becomes of a point and why.
type Decision struct {
	ID     point.ID
	Keep   bool
	Reason string
}

// ErrEmpty refuses a policy that would keep nothing.
var ErrEmpty = advice.With(errors.New("the retention policy keeps nothing"), "name at least one rule")

type rule struct {
	count int
	name  string
	slot  func(time.Time) string // equal for points of one period
}

func (p Policy) rules() []rule {
	return []rule{
		{p.Last, "last", nil},
		{p.Hourly, "hourly", func(t time.Time) string { return t.Format("2006-01-02 15h") }},
		{p.Daily, "daily", func(t time.Time) string { return t.Format("2006-01-02") }},
		{p.Weekly, "weekly", func(t time.Time) string { y, w := t.ISOWeek(); return fmt.Sprintf("%04d-W%02d", y, w) }},
		{p.Monthly, "monthly", func(t time.Time) string { return t.Format("2006-01") }},
		{p.Yearly, "yearly", func(t time.Time) string { return t.Format("2006") }},
	}
}

// Apply decides on the points of one group, in the order newest first. Of
// each period the newest point stays. The newest point always stays, and so
// does every one that lies in the future of now: that clock was wrong. One that
// cannot be restored takes the place of none that can: it stays as long as it
// would without its damage, beside those that stay if it were not there.
func Apply(policy Policy, points []Candidate, now time.Time) ([]Decision, error) {
	if policy == (Policy{}) {
		return nil, ErrEmpty
	}
	sorted := slices.Clone(points)
	slices.SortFunc(sorted, func(a, b Candidate) int {
		return cmp.Or(cmp.Compare(b.Order, a.Order), b.Time.Compare(a.Time), cmp.Compare(b.ID, a.ID))
	})
	out := make([]Decision, len(sorted))
	for i, c := range sorted {
		out[i] = Decision{ID: c.ID, Reason: "no rule keeps it"}
		if c.Time.After(now) {
			out[i] = Decision{ID: c.ID, Keep: true, Reason: "lies in the future: a clock is wrong"}
		}
	}
	// Those of the future use up no rule: they are not what a rule is about.
	var past, whole []int
	for i, d := range out {
		if d.Keep {
			continue
		}
		past = append(past, i)
		if !sorted[i].Torn {
			whole = append(whole, i)
		}
	}
	policy.mark(whole, sorted, out)
	policy.mark(past, sorted, out)
	return out, nil
}

// mark keeps, of some of the points, what the rules keep of these, and the newest.
func (p Policy) mark(some []int, sorted []Candidate, out []Decision) {
	for _, r := range p.rules() {
		r.mark(some, sorted, out)
	}
	if len(some) > 0 && !out[some[0]].Keep {
		out[some[0]].Keep, out[some[0]].Reason = true, "newest"
	}
}

func (r rule) mark(some []int, sorted []Candidate, out []Decision) {
	used, seen := 0, map[string]bool{}
	for _, i := range some {
		slot := ""
		if r.slot != nil {
			// A clock that was put back makes a period come twice.
			if slot = r.slot(sorted[i].Time.UTC()); seen[slot] {
				continue
			}
			seen[slot] = true
		}
		if used == r.count {
			return
		}
		used++
		if out[i].Keep {
			continue
		}
		out[i].Keep = true
		out[i].Reason = fmt.Sprintf("%s %d of %d", r.name, used, r.count)
		if slot != "" {
			out[i].Reason += " (" + slot + ")"
		}
		if sorted[i].Torn {
			out[i].Reason += ", but it cannot be restored"
		}
	}
}
