package ship

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"
)

// doubts are what a look makes of records that are known from before.
type doubts struct {
	suspect map[string]bool // from before
	since   time.Time       // what is known was listed last when this was the newest object; zero: it never was
	bad     []string
	good    []string
}

func newDoubts(seen Seen) doubts {
	d := doubts{suspect: map[string]bool{}, since: seen.Listed}
	for _, key := range seen.Suspect {
		d.suspect[key] = true
	}
	return d
}

// doubtful tells whether a record that is known has to be read again: it was
// found damaged, or the listing shows it with another size than it had (size 0:
// not known), or changed since.
func (l *looker) doubtful(key string, size int64) bool {
	if l.doubts.suspect[key] {
		return true
	}
	o, listed := l.listed[key]
	if !listed {
		return false
	}
	return size > 0 && o.Size != size || !l.doubts.since.IsZero() && o.Time.After(l.doubts.since)
}

// judged notes what reading a record that was known gave. The caller holds mu.
func (l *looker) judged(key string, err error) {
	if err != nil {
		l.doubts.bad = append(l.doubts.bad, key)
	} else {
		l.doubts.good = append(l.doubts.good, key)
	}
}

// newestListed is the time of the newest object that was listed.
func (l *looker) newestListed() (newest time.Time) {
	for _, o := range l.listed {
		if o.Time.After(newest) {
			newest = o.Time
		}
	}
	return newest
}

// Broken are the numbers of events that this host has read and that are now
// damaged or gone: RestoreEvent can put them back.
func (v *View) Broken() []int64 { return slices.Sorted(maps.Keys(v.broken)) }

// RestoreEvent puts an event back as it was signed, when what lies there does
// not verify or is gone. It makes the very bytes that were there; when it cannot,
// it puts nothing.
func (r *Repository) RestoreEvent(ctx context.Context, v *View, number int64) error {
	if err := r.checkWritable(); err != nil {
		return fmt.Errorf("put event %d back: %w", number, err)
	}
	known, ok := v.events[number]
	if !ok {
		return fmt.Errorf("put event %d back: %w here", number, ErrNotFound)
	}
	there, _, err := r.fetchEvent(ctx, number)
	switch {
	case err == nil && there.digest == known.digest:
		return nil
	case err == nil:
		return fmt.Errorf("put event %d back: another one that verifies lies there: %w", number, ErrExists)
	case !isDamage(err) && !errors.Is(err, ErrNotFound):
		return err
	}
	object, err := sign(r.signer, typeEvent, r.ID, eventKey(number), known.eventDoc)
	if err != nil {
		return fmt.Errorf("put event %d back: %w", number, err)
	}
	if digestOf(object) != known.digest {
		return fmt.Errorf("put event %d back: %w: another version of snapd made it", number, ErrDamaged)
	}
	if err := r.store.Put(ctx, eventKey(number), object, false); err != nil {
		return fmt.Errorf("put event %d back: %w", number, err)
	}
	return nil
}
