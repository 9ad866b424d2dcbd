package freeze

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Limits of what the window waits for from the engine. runc gives up
// freezing after 10 s, and cancelling the request does not cancel that.
const (
	pauseLimit   = 15 * time.Second
	unpauseLimit = 15 * time.Second
	unpauseTries = 3
)

// state is what the engine says about one container.
type state struct {
	running, paused bool
	err             error
}

func stateCall(ctx context.Context, e Engine, id string) func() state {
	ctx = context.WithoutCancel(ctx)
	return func() state {
		running, paused, err := e.State(ctx, id)
		return state{running, paused, err}
	}
}

// pauser freezes one container through the engine. Cancelling the operation
// cancels none of its calls: a thaw that can be cancelled is none.
type pauser struct {
	pause   func() error
	unpause func() error
	state   func() state
	started bool
	done    chan struct{} // closed when the call to pause has returned
	err     error         // of the call, read after done
}

func newPauser(ctx context.Context, e Engine, id string) *pauser {
	ctx = context.WithoutCancel(ctx)
	bounded := func(limit time.Duration, call func(context.Context, string) error) func() error {
		return func() error {
			ctx, cancel := context.WithTimeout(ctx, limit)
			defer cancel()
			return call(ctx, id)
		}
	}
	return &pauser{
		pause:   bounded(pauseLimit, e.Pause),
		unpause: bounded(unpauseLimit, e.Unpause),
		state:   stateCall(ctx, e, id),
		done:    make(chan struct{}),
	}
}

// start calls pause in the background; done is closed when it has returned.
func (p *pauser) start() {
	p.started = true
	go func() {
		defer close(p.done)
		p.err = p.pause()
	}()
}

// release undoes start and returns only when the container is seen running or
// gone, or when the engine cannot be made to say so. After a pause that
// failed, the engine may say "not paused" of a container that runc left
// frozen (opencontainers/runc#5325), so the cgroup is switched off as well.
func (t *target) release() error {
	p := t.engine
	<-p.done
	var err error
	for range unpauseTries {
		err = p.unpause()
		if err == nil && p.err == nil {
			return nil
		}
		if t.freezer >= 0 {
			err = errors.Join(err, t.write('0'))
		}
		s := p.state()
		if s.err == nil && (!s.running || !s.paused) {
			t.gone = !s.running
			return nil
		}
		err = errors.Join(err, s.err)
	}
	return fmt.Errorf("unpause %s: %w", t.Member, err)
}
