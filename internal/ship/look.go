package ship

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"

	"snapd/internal/point"

	"golang.org/x/sync/errgroup"
)

const (
	// lookFetches is how many objects are fetched at once.
	lookFetches = 8
	// maxJunk is over how many numbers that hold no record of ours a reader and
	// a writer step.
	maxJunk = 100
)

// View reads what the repository holds. cache may be nil; what is verified is
// added to it.
func (r *Repository) View(ctx context.Context, cache *Cache, look Look) (*View, error) {
	return r.viewBeyond(ctx, cache, look, 0)
}

// viewBeyond is View that also asks for so many numbers beyond the first one that is
// not there: a record that was lost ends a look at what was there, and a listing that
// lacks what lies above it would make it look like the end.
func (r *Repository) viewBeyond(ctx context.Context, cache *Cache, look Look, beyond int64) (*View, error) {
	seen := cache.Seen()
	if seen.Point == nil && seen.Event == nil {
		look = Whole // nothing to probe upwards from
	}
	v := &View{cache: cache, look: look, absent: map[int64]bool{}, junk: map[int64]bool{}, missing: map[point.ID]noted{}, left: map[string]bool{}, fresh: map[string]bool{}, broken: map[int64]bool{}, unread: map[int64]bool{}}
	l := &looker{
		repo: r, v: v, beyond: beyond, listed: map[string]Object{}, streams: map[point.ID][]StreamRef{},
		sealed: map[int64]string{}, asked: map[string]bool{}, badEvents: map[int64]error{}, badPoints: map[int64]error{}, doubts: newDoubts(seen),
	}
	v.points, v.events, v.found = cache.known()
	if err := l.run(ctx); err != nil {
		return nil, fmt.Errorf("look through the repository: %w", err)
	}
	if l.late {
		v.settle()
	}
	if err := l.unseal(ctx); err != nil {
		return nil, fmt.Errorf("look through the repository: %w", err)
	}
	v.tellHidden(r.hidden)
	// A cache that cannot be written costs the next look time, not this one.
	if err := errors.Join(cache.flush(), cache.noteSeen(v.newestPoint(), v.newestEvent()), cache.noteDoubts(l.doubts.bad, l.doubts.good, l.newestListed())); err != nil {
		v.Notes = append(v.Notes, err.Error())
	}
	return v, nil
}

// looker fills a View.
type looker struct {
	repo   *Repository
	v      *View
	beyond int64 // numbers that are asked for beyond the first that is not there

	listed  map[string]Object
	streams map[point.ID][]StreamRef // listed
	sealed  map[int64]string         // of points that were fetched
	asked   map[string]bool          // keys that a Get answered for just now
	late    bool                     // something was found after the facts were settled

	mu        sync.Mutex
	doubts    doubts
	badEvents map[int64]error
	badPoints map[int64]error
}

func (l *looker) run(ctx context.Context) error {
	if l.v.look == Whole {
		if err := l.list(ctx); err != nil {
			return err
		}
	}
	// Events explain points, and either may name a newer one of the other.
	for before := int64(-1); before != l.sum(); {
		before = l.sum()
		if err := l.readEvents(ctx); err != nil {
			return err
		}
		l.v.settleNumbers()
		if err := l.readPoints(ctx); err != nil {
			return err
		}
	}
	l.report()
	if err := l.readStreams(ctx); err != nil {
		return err
	}
	return l.leftovers(ctx)
}

func (l *looker) sum() int64 { return int64(len(l.v.points) + len(l.v.events)) }

func (l *looker) list(ctx context.Context) error {
	return l.repo.store.List(ctx, prefixMeta, func(o Object) error {
		l.listed[o.Key] = o
		return nil
	})
}

func (l *looker) numbers(prefix string) []int64 {
	var out []int64
	for key := range l.listed {
		if n, ok := parseNumbered(prefix, key); ok {
			out = append(out, n)
		}
	}
	slices.Sort(out)
	return out
}

// readEvents reads the ledger: what is listed, what is due, and upwards.
func (l *looker) readEvents(ctx context.Context) error {
	v := l.v
	top := l.topEvent()
	due := l.numbers(prefixLedger)
	v.findNamedEvents()
	for n := int64(1); n <= top; n++ {
		_, known := v.events[n]
		if !known && v.look == Known && v.givenUp[n] {
			continue // a whole look asks whether it was put back
		}
		_, listed := l.listed[eventKey(n)]
		if !known || l.doubts.suspect[eventKey(n)] || v.look == Whole && (!listed || n == top) {
			due = append(due, n)
		}
	}
	err := l.each(ctx, due, func(ctx context.Context, n int64) error {
		_, listed := l.listed[eventKey(n)]
		l.mu.Lock()
		_, known := v.events[n]
		l.mu.Unlock()
		if known && !l.doubtful(eventKey(n), 0) && (v.look == Known || listed && n != top) {
			return nil
		}
		return l.event(ctx, n)
	})
	if err != nil {
		return err
	}
	return l.upwards(ctx, l.topEvent()+1, l.event, l.badEvents)
}

// topEvent is the highest number that a signed record or this host's memory
// names.
func (l *looker) topEvent() int64 {
	top := int64(0)
	for n := range l.v.events {
		top = max(top, n)
	}
	for _, p := range l.v.points {
		if p.events != nil {
			top = max(top, p.events.Number)
		}
	}
	if seen := l.v.cache.Seen().Event; seen != nil {
		top = max(top, seen.Number)
	}
	return top
}

// event asks for one event by name.
func (l *looker) event(ctx context.Context, n int64) error {
	key := eventKey(n)
	if !l.ask(key) {
		return nil
	}
	e, size, err := l.repo.fetchEvent(ctx, n)
	if err != nil && !isDamage(err) {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	known, before := l.v.events[n]
	if before {
		l.judged(key, err)
	}
	switch {
	case err != nil:
		l.badEvents[n] = err
		l.v.broken[n] = before
		if !before && !errors.Is(err, ErrNotFound) {
			l.v.unread[n] = true
		}
	case before && known.digest != e.digest:
		l.badEvents[n] = fmt.Errorf("event number %d: %w: it is not the one that was read before", n, ErrDamaged)
	default:
		l.v.events[n] = e
		if !before {
			l.v.cache.add(key, e.digest, size, e.eventDoc)
		}
		l.hidden(key)
	}
	return nil
}

func (l *looker) ask(key string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	again := l.asked[key]
	l.asked[key] = true
	return !again
}

func (l *looker) each(ctx context.Context, numbers []int64, do func(context.Context, int64) error) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(lookFetches)
	for _, n := range numbers {
		if ctx.Err() != nil {
			break
		}
		g.Go(func() error { return do(ctx, n) })
	}
	return g.Wait()
}

// readPoints reads what is listed, what is due, and upwards.
func (l *looker) readPoints(ctx context.Context) error {
	v := l.v
	newest := int64(0)
	for n := range v.points {
		if _, gone := v.explained[n]; !gone {
			newest = max(newest, n)
		}
	}
	err := l.each(ctx, l.duePoints(), func(ctx context.Context, n int64) error {
		if _, gone := v.explained[n]; gone {
			return nil
		}
		_, listed := l.listed[pointKey(n)]
		l.mu.Lock()
		rec, known := v.points[n]
		doubtful := known && l.doubtful(pointKey(n), rec.size)
		l.mu.Unlock()
		if known && n != newest && (listed || v.look == Known) && !doubtful {
			return nil
		}
		return l.point(ctx, n)
	})
	if err != nil {
		return err
	}
	return l.probePoints(ctx)
}

// duePoints are the numbers that are listed, and all up to the highest one
// that any record knows of.
func (l *looker) duePoints() []int64 {
	v := l.v
	old := map[int64]bool{}
	if v.look == Known {
		for _, n := range v.old {
			old[n] = true // a prune asks for them
		}
	}
	due := l.numbers(prefixPoints)
	for n := int64(1); n <= v.highest; n++ {
		if !old[n] {
			due = append(due, n)
		}
	}
	return due
}

// probePoints asks upwards from the highest number, until there is none.
func (l *looker) probePoints(ctx context.Context) error {
	from := l.v.highest
	for n := range l.v.points {
		from = max(from, n)
	}
	return l.upwards(ctx, from+1, l.point, l.badPoints)
}

// point asks for one point by name.
func (l *looker) point(ctx context.Context, n int64) error {
	key := pointKey(n)
	if !l.ask(key) {
		return nil
	}
	doc, digest, size, err := l.repo.fetchPoint(ctx, n)
	if err != nil && !isDamage(err) {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	known, before := l.v.points[n]
	if err == nil && before && known.Digest != digest {
		err = fmt.Errorf("point number %d: %w: it is not the one that was read before", n, ErrDamaged)
	}
	if before {
		l.judged(key, err)
	}
	if err != nil {
		l.badPoints[n] = err
		l.v.absent[n] = before
		return nil
	}
	rec := doc.record(digest, size)
	l.v.points[n] = &rec
	if l.repo.canUnseal() {
		l.sealed[n] = doc.Sealed
	}
	if !before {
		l.repo.remember(l.v.cache, doc, digest, size)
	}
	l.hidden(key)
	return nil
}

// report makes problems of what lies where a record should be and is none.
func (l *looker) report() {
	v := l.v
	v.settleNumbers()
	tell := func(key string, err error) {
		if errors.Is(err, ErrNotFound) {
			if _, listed := l.listed[key]; listed {
				v.Notes = append(v.Notes, fmt.Sprintf("the listing named %s, which is not there", key))
			}
			return
		}
		v.met = append(v.met, Problem{Object: key, Problem: err.Error(), Points: []point.ID{}})
	}
	for _, n := range slices.Sorted(maps.Keys(l.badEvents)) {
		tell(eventKey(n), l.badEvents[n])
		if v.broken[n] = v.broken[n] && !v.passedOver(n); !v.broken[n] {
			delete(v.broken, n)
		} else if errors.Is(l.badEvents[n], ErrNotFound) {
			v.met = append(v.met, Problem{Object: eventKey(n), Problem: fmt.Sprintf("event number %d is missing: it was read before, and is gone", n), Points: []point.ID{}, Kind: KindMissing})
		}
	}
	for _, n := range slices.Sorted(maps.Keys(l.badPoints)) {
		if _, gone := v.explained[n]; !gone {
			tell(pointKey(n), l.badPoints[n])
			v.junk[n] = !errors.Is(l.badPoints[n], ErrNotFound)
		}
	}
}

// unseal decrypts the secret parts of kept points, where an identity is there.
func (l *looker) unseal(ctx context.Context) error {
	if !l.repo.canUnseal() {
		return nil
	}
	for i := range l.v.Points {
		p := &l.v.Points[i]
		sealed, ok := l.sealed[p.Number]
		if !ok {
			sealed, ok = l.v.cache.sealed(p.Number)
		}
		if !ok {
			doc, digest, size, err := l.repo.fetchPoint(ctx, p.Number)
			if err != nil || digest != p.Digest {
				if err != nil && !isDamage(err) {
					return err
				}
				l.v.Notes = append(l.v.Notes, fmt.Sprintf("%s: its encrypted part cannot be fetched", pointKey(p.Number)))
				continue
			}
			l.repo.remember(l.v.cache, doc, digest, size)
			sealed = doc.Sealed
		}
		var secret Secret
		err := l.repo.openSecret(sealed, &secret)
		switch {
		case err == nil:
			p.Secret, p.Sealed = secret, false
		case !errors.Is(err, ErrNoIdentity): // encrypted to others: all else can be read
			l.v.Notes = append(l.v.Notes, fmt.Sprintf("point %s: %v", pointKey(p.Number), err))
		}
	}
	return nil
}
