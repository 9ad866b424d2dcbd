package ship

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"snapd/internal/durable"
	"snapd/internal/point"
)

// seenFormat is the version of seen.json, which never leaves the host.
const seenFormat = 1

// Seen is what is remembered.
func (c *Cache) Seen() Seen {
	if c == nil {
		return Seen{}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.seen
}

// NotePut remembers durably which point this host put or adopted last. A
// lower number than the one that is remembered changes nothing.
func (c *Cache) NotePut(number int64) error {
	return c.note(func(s *Seen) { s.Put = max(s.Put, number) })
}

// NoteDamage remembers damage durably, for a user without a signing key to
// note it in the ledger. Of several of one stream the last counts.
func (c *Cache) NoteDamage(damage []Damage) error {
	return c.note(func(s *Seen) {
		for _, d := range damage {
			s.Damage = slices.DeleteFunc(s.Damage, func(old Damage) bool { return old.Stream == d.Stream })
			s.Damage = append(s.Damage, Damage{Stream: d.Stream, Object: d.Object, Problem: d.Problem})
		}
	})
}

// NoteWhole forgets damage of streams that were read and found whole, for a
// user without a signing key to note it in the ledger.
func (c *Cache) NoteWhole(streams []point.ID) error {
	whole := map[point.ID]bool{}
	for _, id := range streams {
		whole[id] = true
	}
	return c.forgetDamage(whole)
}

// forgetDamage is for what is noted in the ledger, or is whole again.
func (c *Cache) forgetDamage(streams map[point.ID]bool) error {
	if c == nil || !slices.ContainsFunc(c.Seen().Damage, func(d Damage) bool { return streams[d.Stream] }) {
		return nil
	}
	return c.note(func(s *Seen) {
		s.Damage = slices.DeleteFunc(s.Damage, func(d Damage) bool { return streams[d.Stream] })
	})
}

// NoteSuspect remembers which points and events were found damaged or gone, of
// those that were read before: what is known of them from then proves nothing
// now. Other keys are passed over.
func (c *Cache) NoteSuspect(keys []string) error {
	return c.noteDoubts(slices.DeleteFunc(slices.Clone(keys), func(key string) bool { return !c.remembers(key) }), nil, time.Time{})
}

// remembers tells whether a point or event was read before.
func (c *Cache) remembers(key string) bool {
	if c == nil {
		return false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if n, ok := parseNumbered(prefixPoints, key); ok {
		_, there := c.points[n]
		return there
	}
	n, ok := parseNumbered(prefixLedger, key)
	_, there := c.events[n]
	return ok && there
}

// noteDoubts remembers what a look found of keys that are known, and the time of
// the newest object that it listed, zero if it did not list.
func (c *Cache) noteDoubts(bad, good []string, listed time.Time) error {
	seen := c.Seen()
	news := listed.After(seen.Listed) ||
		slices.ContainsFunc(bad, func(key string) bool { return !slices.Contains(seen.Suspect, key) }) ||
		slices.ContainsFunc(good, func(key string) bool { return slices.Contains(seen.Suspect, key) })
	if c == nil || !news {
		return nil
	}
	return c.note(func(s *Seen) {
		s.Suspect = slices.DeleteFunc(slices.Clone(s.Suspect), func(key string) bool { return slices.Contains(good, key) || slices.Contains(bad, key) })
		s.Suspect = append(s.Suspect, bad...)
		if listed.After(s.Listed) {
			s.Listed = listed
		}
	})
}

// noteSeen remembers the newest numbers. They never fall: that is how a
// repository that was put back to an older state is noticed.
func (c *Cache) noteSeen(newestPoint, newestEvent *Link) error {
	if c == nil {
		return nil
	}
	seen := c.Seen()
	if !above(newestPoint, seen.Point) && !above(newestEvent, seen.Event) {
		return nil
	}
	return c.note(func(s *Seen) {
		if above(newestPoint, s.Point) {
			s.Point = newestPoint
		}
		if above(newestEvent, s.Event) {
			s.Event = newestEvent
		}
	})
}

func above(l, than *Link) bool { return l != nil && (than == nil || l.Number > than.Number) }

// note changes what is remembered: written aside, synced, renamed. Another
// process may have changed it meanwhile, so it is read again before.
func (c *Cache) note(change func(*Seen)) error {
	if c == nil {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.locked(func() error {
		seen := c.readSeen()
		seen.Damage = slices.Clone(seen.Damage)
		change(&seen)
		text, err := json.Marshal(seen)
		if err == nil {
			err = durable.Write(filepath.Join(c.dir, cacheSeen), append(text, '\n'), 0o600)
		}
		if err != nil {
			return fmt.Errorf("remember what was seen of a repository: %w", err)
		}
		c.seen = seen
		return nil
	})
}

// readSeen gives what is in the file. What cannot be read was lost.
func (c *Cache) readSeen() Seen {
	fresh := Seen{Format: seenFormat, Damage: []Damage{}}
	text, err := os.ReadFile(filepath.Join(c.dir, cacheSeen))
	if err != nil {
		return fresh
	}
	var seen Seen
	if json.Unmarshal(text, &seen) != nil || seen.Format != seenFormat || seen.Damage == nil {
		return fresh
	}
	return seen
}
