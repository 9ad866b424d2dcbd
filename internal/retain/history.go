package retain

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"snapd/internal/point"
)

// Dataset is one that a candidate has whole.
type Dataset struct {
	Origin string // its guid
	Name   string // for people
}

// ApplyEach is Apply for points that do not all have the same datasets. Beside
// the rules over all of them, the same rules hold over the history of each
// dataset: over those points alone that have it whole. What keeps a point in any
// history keeps it, so that a point never uses up a rule for what it lacks. counts
// tells whether a dataset has a history of its own; one that a user has given up
// has none.
//
// A dataset that all points have has the history of all, and costs nothing; those
// that the same points have are gone through once.
func ApplyEach(policy Policy, points []Candidate, counts func(origin string) bool, now time.Time) ([]Decision, error) {
	out, err := Apply(policy, points, now)
	if err != nil {
		return nil, err
	}
	at := make(map[point.ID]int, len(out))
	for i, d := range out {
		at[d.ID] = i
	}
	for _, h := range histories(points, counts) {
		decisions, err := Apply(policy, h.points, now)
		if err != nil {
			return nil, err
		}
		for _, d := range decisions {
			if o := &out[at[d.ID]]; d.Keep && !o.Keep {
				o.Keep, o.Reason = true, fmt.Sprintf("%s of those with %s", d.Reason, h.name)
			}
		}
	}
	return out, nil
}

// history are the points that have a dataset.
type history struct {
	origin, name string
	points       []Candidate
	key          []byte // which points these are
}

// histories are those of the datasets that some points have and some lack, by
// name; of those of the same points the first.
func histories(points []Candidate, counts func(origin string) bool) []history {
	byOrigin := map[string]*history{}
	for n, p := range points {
		for _, d := range p.Has {
			h := byOrigin[d.Origin]
			if h == nil {
				if !counts(d.Origin) {
					continue
				}
				h = &history{origin: d.Origin, name: d.Name}
				byOrigin[d.Origin] = h
			}
			if len(h.points) > 0 && h.points[len(h.points)-1].ID == p.ID {
				continue // it names the dataset twice
			}
			h.points = append(h.points, p)
			h.key = fmt.Appendf(h.key, "%d ", n)
		}
	}
	var out []history
	for _, h := range byOrigin {
		if len(h.points) < len(points) {
			out = append(out, *h)
		}
	}
	slices.SortFunc(out, func(a, b history) int { return cmp.Or(cmp.Compare(a.name, b.name), cmp.Compare(a.origin, b.origin)) })
	seen := map[string]bool{}
	return slices.DeleteFunc(out, func(h history) bool {
		again := seen[string(h.key)]
		seen[string(h.key)] = true
		return again
	})
}
