package freeze

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"snapd/internal/advice"
)

// Limits of starting a container again.
const (
	startLimit  = 30 * time.Second       // of one call
	startTries  = 3                      // then it is an error, and the journal stays
	healthEvery = 100 * time.Millisecond // between two looks at a health check
)

// stopper shuts one container down and starts it again through the engine.
// Like a pauser's, none of its calls is cancelled with the operation.
type stopper struct {
	stop, start func() error
	state       func() state
	health      func() (string, error)
	done        chan struct{} // closed when the call to stop has returned, or was not made
	err         error         // of the call, read after done
	took        time.Duration // the call, read after done
	unwell      string        // why it is not up again
}

func newStopper(ctx context.Context, e Engine, id string) *stopper {
	ctx = context.WithoutCancel(ctx)
	return &stopper{
		stop: func() error { return e.Stop(ctx, id) }, // as long as its own settings allow
		start: func() error {
			ctx, cancel := context.WithTimeout(ctx, startLimit)
			defer cancel()
			return e.Start(ctx, id)
		},
		state:  stateCall(ctx, e, id),
		health: func() (string, error) { return e.Health(ctx, id) },
		done:   make(chan struct{}),
	}
}

// stopAll shuts down those that are to be stopped, rank by rank.
func (w *Window) stopAll() error {
	for _, rank := range w.ranks() {
		for _, t := range rank {
			if err := w.beginStop(t); err != nil {
				return err
			}
		}
		for _, t := range rank {
			select {
			case <-w.released:
				return errExpired
			case <-t.stopper.done:
			}
			if t.stopper.err != nil {
				return fmt.Errorf("stop %s: %w", t.Member, t.stopper.err)
			}
			t.frozen = true
			w.fault(StepFreezing)
		}
	}
	return nil
}

// beginStop calls stop in the background, unless the thaw has begun. The
// journal knows it before the engine does. One that has ended by itself since
// Prepare is not touched, so that it is not started either.
func (w *Window) beginStop(t *target) error {
	s := t.stopper.state()
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.thawing {
		return errExpired
	}
	if s.err == nil && !s.running {
		t.gone = true
		close(t.stopper.done)
		return nil
	}
	if err := w.journal.setMember(t.index, memberStopped); err != nil {
		return err
	}
	t.touched = true
	go func() {
		defer close(t.stopper.done)
		begun := time.Now()
		t.stopper.err = t.stopper.stop()
		t.stopper.took = time.Since(begun)
	}()
	return nil
}

// ranks are the targets to stop, those of the lowest rank first.
func (w *Window) ranks() [][]*target {
	byRank := map[int][]*target{}
	var order []int
	for _, t := range w.targets {
		if t.how != ByStop {
			continue
		}
		if byRank[t.Rank] == nil {
			order = append(order, t.Rank)
		}
		byRank[t.Rank] = append(byRank[t.Rank], t)
	}
	slices.Sort(order)
	var out [][]*target
	for _, rank := range order {
		out = append(out, byRank[rank])
	}
	return out
}

// startAll starts what was stopped, in reverse order; each rank is waited for
// until it is well, or Options.Wait has passed. One that does not come up keeps
// no other down.
func (w *Window) startAll() {
	wait := w.options.Wait
	if wait == 0 {
		wait = DefaultWait
	}
	for _, rank := range slices.Backward(w.ranks()) {
		forEach(rank, func(t *target) {
			if !t.touched {
				return
			}
			if t.start() {
				t.touched = false
				_ = w.journal.setMember(t.index, memberRunning) // without, it is only started once more
				t.stopper.unwell = t.stopper.await(wait)
			}
			w.fault(StepThawing)
		})
	}
}

// start undoes stop and tells whether the container runs again. One that could
// not be told to stop, and runs, needs nothing.
func (t *target) start() bool {
	s := t.stopper
	<-s.done
	if s.err != nil {
		if st := s.state(); st.err == nil && st.running {
			return true
		}
	}
	var err error
	for range startTries {
		if err = s.start(); err == nil {
			return true
		}
	}
	s.unwell = "could not be started again: " + err.Error()
	return false
}

// await looks at the health check until it is content. It says what is wrong.
func (s *stopper) await(wait time.Duration) string {
	for end := time.Now().Add(wait); ; time.Sleep(healthEvery) {
		st := s.state()
		if st.err == nil && !st.running {
			return "was started again and has ended since"
		}
		status, err := s.health()
		switch {
		case err == nil && (status == "" || status == "healthy"):
			return ""
		case err == nil && status == "unhealthy":
			return "was started again and is unhealthy"
		case time.Now().After(end) && err != nil:
			return "was started again, and the engine does not say whether it is healthy: " + err.Error()
		case time.Now().After(end):
			return fmt.Sprintf("was started again and is not healthy after %v", wait)
		}
	}
}

// recoverStopped starts a container that a dead window had stopped.
func (m journalMember) recoverStopped(ctx context.Context, engine Engine, entry byte) (Outcome, error) {
	if entry != memberStopped {
		return Moving, nil
	}
	if engine == nil {
		return "", advice.With(errors.New("the engine had been asked to stop it, and cannot be reached now"), "start the engine, then run: snapd thaw")
	}
	s := newStopper(ctx, engine, m.ID)
	st := s.state()
	if st.err != nil {
		return "", st.err
	}
	if st.running {
		// The engine may still be about to end it. Asked twice, it ends it
		// once: when this call returns, both are over.
		if err := s.stop(); err != nil {
			return "", fmt.Errorf("wait until it has stopped, to start it again: %w", err)
		}
	}
	if err := s.start(); err != nil {
		return "", fmt.Errorf("start it again: %w", err)
	}
	if st := s.state(); st.err != nil || !st.running {
		return Vanished, st.err
	}
	return Started, nil
}
