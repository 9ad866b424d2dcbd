package agent

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"sync"

	"snapd/internal/ship"
)

// repositories are those that one operation uses, so that its steps do not each
// read them anew. They are opened beside each other: one that does not answer holds
// up what needs it, and nothing else. All but the opening is done by one goroutine.
type repositories struct {
	agent   *Agent
	look    ship.Look
	all     map[string]*opening
	settled chan struct{} // has room for one: an opening has ended
	running sync.WaitGroup
	told    map[string]string // by name, the last fault of one that a ship has told
}

// opening is one of them. What it became may be read once done is closed.
type opening struct {
	done   chan struct{}
	opened *opened
	err    error
}

func (o *opening) isDone() bool {
	select {
	case <-o.done:
		return true
	default:
		return false
	}
}

func (a *Agent) repositories() *repositories {
	return &repositories{agent: a, all: map[string]*opening{}, settled: make(chan struct{}, 1), told: map[string]string{}}
}

// begin opens a repository, unless that was begun before.
func (r *repositories) begin(ctx context.Context, name string) *opening {
	if o := r.all[name]; o != nil {
		return o
	}
	o := &opening{done: make(chan struct{})}
	r.all[name] = o
	r.running.Go(func() {
		o.opened, o.err = r.agent.openFor(ctx, name, r.look)
		close(o.done)
		select {
		case r.settled <- struct{}{}:
		default: // it is known already that one has
		}
	})
	return o
}

// get opens a repository, or gives the one that is open. One that did not answer
// for as long as it is tried is not tried again by the same operation.
func (r *repositories) get(ctx context.Context, name string) (*opened, error) {
	o := r.begin(ctx, name)
	<-o.done // ends with ctx
	if o.err != nil && !errors.Is(o.err, ship.ErrUnavailable) {
		delete(r.all, name)
	}
	return o.opened, o.err
}

// asTheyAnswer gives names of repositories in the order in which these can be used,
// or failed: first those that can be at once, in the order of names. It ends with
// ctx. A name that stands there twice comes twice.
func (r *repositories) asTheyAnswer(ctx context.Context, names []string) iter.Seq[string] {
	return func(yield func(string) bool) {
		for _, name := range names {
			r.begin(ctx, name)
		}
		for left := slices.Clone(names); len(left) > 0; {
			i := slices.IndexFunc(left, func(name string) bool { return r.begin(ctx, name).isDone() })
			if i < 0 {
				<-r.settled // all of them end with ctx
				continue
			}
			name := left[i]
			left = slices.Delete(left, i, i+1)
			if !yield(name) {
				return
			}
		}
	}
}

// failed has the next step read a repository anew: something failed there. When it
// did not answer any more, no later step waits for it again.
func (r *repositories) failed(name string, err error) {
	r.forget(name)
	if errors.Is(err, ship.ErrUnavailable) {
		o := &opening{done: make(chan struct{}), err: err}
		close(o.done)
		r.all[name] = o
	}
}

// gone are the repositories that did not answer so far.
func (r *repositories) gone() map[string]bool {
	out := map[string]bool{}
	for name, o := range r.all {
		out[name] = o.isDone() && errors.Is(o.err, ship.ErrUnavailable)
	}
	return out
}

// said tells whether the step before has told a fault of a repository: that it was
// gone, or the same.
func (r *repositories) said(name string, gone map[string]bool, err error) bool {
	return gone[name] || r.told[name] == err.Error()
}

func (r *repositories) forget(name string) {
	o := r.all[name]
	if o == nil {
		return
	}
	if err := o.opened.close(); err != nil {
		r.agent.warnOfError("", fmt.Errorf("repository %s: %w", name, err))
	}
	delete(r.all, name)
}

// close ends all of it, also openings that no step waited for: their ctx has ended.
func (r *repositories) close() {
	r.running.Wait()
	for name := range r.all {
		r.forget(name)
	}
}
