package ship

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
)

// LostEvent is an event that cannot be read and that this host has never read:
// it lies before another one, or signed records name it.
type LostEvent struct {
	Number int64
	Object string // key
	There  bool   // something lies there that does not verify
	Events int    // how many later events name it
	Points int    // how many points name it
}

// LostEvents are those that neither a record of their loss nor this host's memory
// settles. What they said of removals, pins and damage is not known.
func (v *View) LostEvents() []LostEvent {
	found := map[int64]*LostEvent{}
	for _, p := range v.Problems {
		n, ok := parseNumbered(prefixLedger, p.Object)
		if _, read := v.events[n]; !ok || read || v.isJunk(p) {
			continue
		}
		if found[n] == nil {
			found[n] = &LostEvent{Number: n, Object: p.Object}
		}
		found[n].There = found[n].There || p.Kind == KindDamaged
	}
	if len(found) == 0 {
		return nil
	}
	for _, e := range v.events {
		if l := lostBehind(found, e.Previous); l != nil {
			l.Events++
		}
	}
	for _, p := range v.points {
		if l := lostBehind(found, p.events); l != nil {
			l.Points++
		}
	}
	var out []LostEvent
	for _, n := range slices.Sorted(maps.Keys(found)) {
		out = append(out, *found[n])
	}
	return out
}

func lostBehind(found map[int64]*LostEvent, l *Link) *LostEvent {
	if l == nil {
		return nil
	}
	return found[l.Number]
}

// GiveUpEvents says of events that they cannot be read any more, so that they are
// unexplained no longer. Each is asked for by name first; one that verifies is an
// error. Should one be put back later, it counts again.
func (r *Repository) GiveUpEvents(ctx context.Context, v *View, numbers []int64) error {
	for _, n := range numbers {
		switch _, _, err := r.fetchEvent(ctx, n); {
		case err == nil:
			return fmt.Errorf("give event %d up: it verifies now: %w", n, ErrExists)
		case !isDamage(err) && !errors.Is(err, ErrNotFound):
			return fmt.Errorf("give event %d up: %w", n, err)
		}
	}
	err := r.putEvent(ctx, v, func() (*eventBody, error) {
		var body eventBody
		for _, n := range numbers {
			if _, read := v.events[n]; !read && !v.givenUp[n] && !slices.Contains(body.LostEvents, n) {
				body.LostEvents = append(body.LostEvents, n)
			}
		}
		return &body, nil
	})
	if err != nil {
		return fmt.Errorf("give events up: %w", err)
	}
	return nil
}

// skipEvents has the numbers of junk above the newest event never used: it may
// have been an event that another host has read.
func (r *Repository) skipEvents(ctx context.Context, v *View, junk []string) error {
	var numbers []int64
	next := v.nextEvent()
	for _, key := range junk {
		if n, ok := parseNumbered(prefixLedger, key); ok && n >= next && n < next+maxJunk {
			numbers = append(numbers, n)
			v.namedEvent = max(v.namedEvent, n)
		}
	}
	if len(numbers) == 0 {
		return nil
	}
	return r.GiveUpEvents(ctx, v, numbers)
}

// nextEvent is the number above every one that a signed record or this host's
// memory names: one that was named and is gone is never used again.
func (v *View) nextEvent() int64 { return max(v.top, v.namedEvent) + 1 }

// findNamedEvents finds which events are named, and which were given up.
func (v *View) findNamedEvents() {
	v.givenUp = map[int64]bool{}
	for _, e := range v.events {
		for _, n := range e.LostEvents {
			v.givenUp[n] = true
		}
	}
	for _, p := range v.points {
		if p.events != nil {
			v.namedEvent = max(v.namedEvent, p.events.Number)
		}
	}
	if seen := v.cache.Seen().Event; seen != nil {
		v.namedEvent = max(v.namedEvent, seen.Number)
	}
}

// settled tells whether a problem was settled by a signed record: a prune has
// dropped what lay there, or an event that was never read was given up.
func (v *View) settled(p Problem) bool {
	if n, ok := parseNumbered(prefixPoints, p.Object); ok {
		_, gone := v.explained[n]
		return gone
	}
	n, ok := parseNumbered(prefixLedger, p.Object)
	_, read := v.events[n]
	return ok && !read && v.givenUp[n]
}
