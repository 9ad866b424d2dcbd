package hold

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"snapd/internal/advice"
)

// patience is how long a session may take to end by itself once it was told
// to, before it is ended by force. On a busy host a second is not enough for
// one that has just been thawed; an engine that hangs costs the application
// this long.
const patience = 2 * time.Second

// keeper takes one lock and keeps it.
type keeper struct {
	lock    Lock
	recipe  recipe
	options Options

	session *attempt
	asked   time.Time // when the lock that was got was asked for
	gone    time.Time // when it was released, as far as can be told
	said    string
	tries   int

	mu    sync.Mutex // held while the session is being ended
	alarm *time.Timer
	late  bool // the alarm ended it
	ended bool
	err   error
}

func newKeeper(l Lock, o Options) *keeper {
	return &keeper{lock: l, recipe: recipeOf(l, o.Timeout), options: o}
}

func (k *keeper) who() string { return "container " + k.lock.Name + " (" + k.lock.By + ")" }

// connect opens the session of one that is built in, and tries again while
// the server is not ready.
func (k *keeper) connect(ctx context.Context) error {
	if k.recipe.greeting == "" {
		return nil // it locks as soon as it is started
	}
	return k.insist(ctx, func() error { return k.open(ctx) })
}

// acquire takes the lock.
func (k *keeper) acquire(ctx context.Context) error {
	return k.insist(ctx, func() error { return k.ask(ctx) })
}

// insist tries until it succeeds, time is up, or trying again is no use.
func (k *keeper) insist(ctx context.Context, try func() error) error {
	var last error
	for {
		err := try()
		if err == nil {
			return nil
		}
		var f *failure
		again := errors.As(err, &f) && k.recipe.again != nil && k.recipe.again(f.output)
		if f == nil && last != nil {
			err = fmt.Errorf("%w; the time before: %w", err, last)
		}
		last = err
		if k.session != nil {
			_ = k.session.end(false) // err says what matters
			k.session = nil
		}
		if !again || !k.wait(ctx) {
			return k.explain(err, again)
		}
	}
}

// oneTry is what one more try needs: a second for the lock, and the session.
const oneTry = 1200 * time.Millisecond

// wait lets the application work on between two tries, shorter before the last
// one. It tells whether there is time for another one.
func (k *keeper) wait(ctx context.Context) bool {
	pause := k.recipe.pause
	if deadline, ok := ctx.Deadline(); ok {
		pause = min(pause, time.Until(deadline)-oneTry)
	}
	if pause < oneTry/3 {
		return false
	}
	select {
	case <-ctx.Done():
		return false
	case <-time.After(pause):
		return true
	}
}

func (k *keeper) explain(err error, again bool) error {
	s := fmt.Sprintf("take the lock of %s", k.who())
	switch {
	case errors.Is(err, context.Canceled):
		return fmt.Errorf("%s: %w", s, err)
	case again, errors.Is(err, context.DeadlineExceeded):
		return advice.With(fmt.Errorf("%s: %w within %v (hold-timeout), tries: %d: %w", s, ErrNotTaken, k.options.Timeout, k.tries, err), "%s", k.recipe.busy)
	}
	return advice.With(fmt.Errorf("%s: %w: %w", s, ErrNotTaken, err), "%s", k.recipe.otherwise)
}

// open starts the session and waits for its greeting.
func (k *keeper) open(ctx context.Context) error {
	var err error
	if k.session, err = start(ctx, k.options.Runner, k.lock.Target, k.recipe, k.options.Mark); err != nil {
		return err
	}
	if k.recipe.greeting == "" {
		return nil
	}
	_, err = k.session.say(ctx, k.recipe.hello, k.recipe.greeting, nil)
	return err
}

// ask asks for the lock and waits for the acknowledgement. From then on the
// alarm is set.
func (k *keeper) ask(ctx context.Context) error {
	k.tries++
	k.asked = time.Now()
	if k.session == nil {
		if err := k.open(ctx); err != nil {
			return err
		}
	}
	if k.recipe.ask != "" {
		k.asked = time.Now()
	}
	said, err := k.session.say(ctx, k.recipe.ask, k.recipe.ack, func() { k.options.fault(StepAsking) })
	if err == nil {
		err = k.session.acknowledged(ctx, said)
	}
	if err != nil {
		return err
	}
	k.said = said
	k.mu.Lock()
	defer k.mu.Unlock()
	ctx = context.WithoutCancel(ctx)
	k.alarm = time.AfterFunc(k.options.Timeout, func() { k.expire(ctx) })
	return nil
}

// expire releases the lock at its own deadline.
func (k *keeper) expire(ctx context.Context) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if !k.ended {
		k.late = true
		k.finish(ctx)
	}
}

// release ends the session and says whether the lock was held until now.
func (k *keeper) release(ctx context.Context) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.alarm != nil {
		k.alarm.Stop()
	}
	if !k.ended {
		k.finish(ctx)
	}
	return k.err
}

// finish is called once, with mu held.
func (k *keeper) finish(ctx context.Context) {
	k.ended = true
	if k.session == nil {
		return
	}
	if k.alarm == nil { // it was never held
		_ = k.session.end(false) // the caller knows why
		return
	}
	why := k.session.finish(ctx, k.recipe)
	k.gone = k.session.gone
	switch {
	case k.late:
		k.err = &Lost{Who: k.who(), Why: fmt.Sprintf("it had been held for %v, and hold-timeout allows no more", k.options.Timeout)}
	case why != "":
		k.err = &Lost{Who: k.who(), Why: why}
	}
}
