package ship

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"snapd/internal/point"

	"golang.org/x/sync/errgroup"
)

const (
	// lockSlack is the part of a lock by which a base may be behind what builds
	// on it: so each object is extended at most ten times in as long as a lock
	// lasts, however often something is shipped.
	lockSlack = 10
	// locksAtOnce is how many locks are extended at a time.
	locksAtOnce = 8
)

// Extended says what ExtendLocks did.
type Extended struct {
	Until   time.Time // of the newest stream; zero: it has no lock, and nothing was to do
	Streams int       // whose objects were extended
	Objects int
	// Refused is why locks cannot be extended, nil when they can. It is no
	// fault of what was shipped.
	Refused error
	// Again: they could not the last time either.
	Again bool
}

// ExtendLocks locks what streams build on for as long as the newest of these
// streams is locked by the bucket's own rule, and the repository's description
// too. What is behind by less than a tenth of a lock stays as it is. The
// newest stream's lock is asked of the store, whose clock counts: a wrong one
// here locks nothing for longer than the bucket does. In a store without locks
// it does nothing.
func (r *Repository) ExtendLocks(ctx context.Context, view *View, streams []point.ID, now time.Time) (Extended, error) {
	locker, ok := r.store.(Locker)
	if !ok || len(streams) == 0 {
		return Extended{}, nil
	}
	e := &extending{repo: r, locker: locker, view: view, memory: view.cache.lockMemory(), now: now}
	if e.memory.unlocked(now) {
		return Extended{}, nil
	}
	err := e.run(ctx, streams)
	if err != nil {
		err = fmt.Errorf("extend the locks of what was built on: %w", err)
	}
	return e.done, err
}

// extending is one ExtendLocks.
type extending struct {
	repo   *Repository
	locker Locker
	view   *View
	memory *lockMemory
	now    time.Time

	lock   Lock          // of the newest stream
	period time.Duration // for how long the store locks what is put
	newest StreamRef
	done   Extended
}

func (e *extending) run(ctx context.Context, streams []point.ID) error {
	newest, known := e.view.Stream(slices.Max(streams))
	if !known || newest.Key == "" {
		return nil
	}
	e.newest = newest
	err := e.ask(ctx)
	switch {
	case errors.Is(err, errors.ErrUnsupported), err == nil && e.lock.Until.IsZero():
		e.memory.Unlocked = e.now
		return e.view.cache.noteLocks(e.memory, e.now)
	case errors.Is(err, ErrDenied):
		return e.refused(err)
	case err != nil:
		return err
	}
	e.done.Until = e.lock.Until
	need := map[point.ID]bool{}
	for _, id := range streams {
		e.view.need(need, id)
	}
	err = e.extendAll(ctx, sortedIDs(need))
	if errors.Is(err, ErrDenied) || errors.Is(err, errors.ErrUnsupported) {
		return e.refused(err)
	}
	if err == nil {
		e.memory.Refused = ""
	}
	return errors.Join(err, e.view.cache.noteLocks(e.memory, e.now))
}

// ask finds out how long the newest stream is locked, and how long a lock is.
func (e *extending) ask(ctx context.Context) (err error) {
	if e.lock, err = e.locker.LockOf(ctx, e.newest.Key); err != nil || e.lock.Until.IsZero() {
		return err
	}
	put, err := statObject(ctx, e.repo.store, e.newest.Key)
	if err != nil {
		return err
	}
	e.period = max(e.lock.Until.Sub(put.Time), 0)
	if _, known := e.memory.Until[string(e.newest.ID)]; !known {
		e.allOf(e.newest, e.lock.Until)
	}
	return nil
}

// refused remembers that locks cannot be extended, which fails nothing.
func (e *extending) refused(err error) error {
	e.done.Refused = err
	e.done.Again = e.memory.Refused != ""
	e.memory.Refused = err.Error()
	return e.view.cache.noteLocks(e.memory, e.now)
}

// extendAll extends what is due, the oldest first, and remembers each stream
// when all of it is done.
func (e *extending) extendAll(ctx context.Context, ids []point.ID) error {
	if until, err := e.until(ctx, repositoryLock, keyRepository); err != nil {
		return err
	} else if e.due(until) {
		if err := e.locker.ExtendLock(ctx, keyRepository, e.lock); err != nil {
			return err
		}
		e.done.Objects++
		e.memory.Until[repositoryLock] = e.lock.Until
	}
	for _, id := range ids {
		s, known := e.view.Stream(id)
		if !known || s.Key == "" {
			continue // damage, which other steps tell of
		}
		until, err := e.untilOf(ctx, s)
		if err != nil {
			return err
		}
		if !e.due(until) {
			continue
		}
		whole, err := e.extend(ctx, s)
		if err != nil {
			return err
		}
		if !whole {
			continue
		}
		e.done.Streams++
		e.memory.Until[string(id)] = e.lock.Until
		if err := e.view.cache.noteLocks(e.memory, e.now); err != nil {
			return err
		}
	}
	return nil
}

// due tells whether what is locked until then is behind by too much.
func (e *extending) due(until time.Time) bool {
	return until.Before(e.lock.Until.Add(-e.period / lockSlack))
}

// untilOf is until when all objects of a stream are locked, at least.
func (e *extending) untilOf(ctx context.Context, s StreamRef) (time.Time, error) {
	if until, known := e.memory.Until[string(s.ID)]; known {
		return until, nil
	}
	until, err := e.until(ctx, string(s.ID), s.Key)
	if err == nil {
		until = e.allOf(s, until)
	}
	return until, err
}

// allOf remembers of a stream whose manifest is locked until then, by the
// store's own rule, until when all of it is: its segments were put before the
// manifest, but not before it was begun.
func (e *extending) allOf(s StreamRef, until time.Time) time.Time {
	if first := s.ID.Time().Add(e.period); first.Before(until) {
		until = first
	}
	e.memory.Until[string(s.ID)] = until
	return until
}

// until is what is remembered, or what the store says of one object.
func (e *extending) until(ctx context.Context, name, key string) (time.Time, error) {
	if until, known := e.memory.Until[name]; known {
		return until, nil
	}
	l, err := e.locker.LockOf(ctx, key)
	if errors.Is(err, ErrNotFound) {
		return e.lock.Until, nil // damage, which other steps tell of
	}
	if err == nil {
		e.memory.Until[name] = l.Until
	}
	return l.Until, err
}

// extend extends every object of a stream: the manifest last, since its lock
// is taken for that of the others. whole: none of them was missing.
func (e *extending) extend(ctx context.Context, s StreamRef) (whole bool, err error) {
	m, err := e.repo.Manifest(ctx, s)
	if isDamage(err) {
		return false, nil // which other steps tell of
	}
	if err != nil {
		return false, err
	}
	var missing atomic.Bool
	one := func(ctx context.Context, key string) error {
		err := e.locker.ExtendLock(ctx, key, e.lock)
		if errors.Is(err, ErrNotFound) {
			missing.Store(true)
			return nil
		}
		return err
	}
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(locksAtOnce)
	extend := func(key string) {
		e.done.Objects++
		g.Go(func() error { return one(gctx, key) })
	}
	for k, part := range m.parts {
		extend(partKey(m.ID, k, part.Digest))
	}
	err = e.repo.eachSegment(gctx, m, func(s segment) error {
		extend(s.key)
		return gctx.Err()
	})
	if gerr := g.Wait(); gerr != nil {
		return false, gerr
	}
	if isDamage(err) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	e.done.Objects++
	err = one(ctx, m.Key)
	return !missing.Load(), err
}

// BaseLock is the oldest stream that the newest one of a dataset builds on.
type BaseLock struct {
	Base    time.Time // when it was begun; zero: nothing builds on anything
	Until   time.Time // until when it is locked; zero: it is not
	Unknown bool      // this user may not ask until when
	Newest  time.Time // when the newest one was begun
}

// OldestBase is that one of all datasets whose lock ends first.
// errors.ErrUnsupported where there are no locks.
func (r *Repository) OldestBase(ctx context.Context, view *View) (BaseLock, error) {
	locker, ok := r.store.(Locker)
	if !ok {
		return BaseLock{}, notLocker("ask for locks of repository", r.ID)
	}
	newest := map[string]point.ID{}
	for _, s := range view.Streams() {
		newest[s.Origin] = max(newest[s.Origin], s.ID)
	}
	var out BaseLock
	for _, id := range newest {
		need := map[point.ID]bool{}
		view.need(need, id)
		base, known := view.Stream(sortedIDs(need)[0])
		if !known || base.Key == "" || base.ID == id {
			continue
		}
		l, err := locker.LockOf(ctx, base.Key)
		denied := errors.Is(err, ErrDenied)
		if errors.Is(err, ErrNotFound) {
			continue // damage, which other checks tell of
		}
		if err != nil && !denied {
			return BaseLock{}, fmt.Errorf("ask for the lock of stream %s: %w", base.ID, err)
		}
		began := base.ID.Time()
		if out.Base.IsZero() || l.Until.Before(out.Until) || denied && began.Before(out.Base) {
			out = BaseLock{Base: began, Until: l.Until, Unknown: denied, Newest: id.Time()}
		}
	}
	return out, nil
}
