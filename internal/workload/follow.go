package workload

import (
	"context"
	"errors"
	"io"
	"slices"
	"strconv"
	"sync"
	"time"

	"snapd/internal/proc"

	"github.com/docker/docker/api/types/events"
	"github.com/docker/docker/api/types/filters"
	"github.com/docker/docker/api/types/volume"
)

// Follower listens to which containers the engine starts. Asking afterwards who
// runs does not say who has run.
type Follower struct {
	engine *Engine
	since  time.Time
	cancel context.CancelFunc
	done   chan struct{} // closed when it listens no more

	mu     sync.Mutex // for what follows
	runs   map[string][]Run
	seen   map[string]*Container // as they were when something was heard of them
	volume map[string]*volume.Volume
}

// Run is one run of a container, as the engine told of it.
type Run struct {
	Container Container // only ID and Name when Gone
	From, To  time.Time // To is zero while it runs, as far as was heard
	Gone      bool      // it is not there any more, and was not seen while it was: what it wrote to cannot be told
}

// Follow listens until the caller closes it, also to what was told since a moment
// that has just been. An engine that hangs is found out by Runs.
func (e *Engine) Follow(ctx context.Context, since time.Time) *Follower {
	ctx, cancel := context.WithCancel(ctx)
	f := &Follower{
		engine: e, since: since, cancel: cancel, done: make(chan struct{}),
		runs: map[string][]Run{}, seen: map[string]*Container{},
	}
	go func() {
		defer close(f.done)
		_ = f.listen(ctx, time.Time{}) // what it misses Runs asks for
	}()
	return f
}

// Close ends it. It may be called twice.
func (f *Follower) Close() {
	f.cancel()
	<-f.done
}

// listen hears all events since the beginning, up to a moment; zero means until
// ctx ends. A container is looked at as soon as something is heard of it: it may
// be gone soon.
func (f *Follower) listen(ctx context.Context, until time.Time) error {
	wanted := filters.NewArgs(filters.Arg("type", string(events.ContainerEventType)))
	for _, action := range []events.Action{events.ActionCreate, events.ActionStart, events.ActionDie} {
		wanted.Add("event", string(action))
	}
	o := events.ListOptions{Since: stamp(f.since), Filters: wanted}
	if !until.IsZero() {
		o.Until = stamp(until)
	}
	messages, errs := f.engine.api.Events(ctx, o)
	for {
		select {
		case m := <-messages:
			f.hear(ctx, m)
		case err := <-errs:
			if errors.Is(err, io.EOF) {
				return nil
			}
			return err
		}
	}
}

func stamp(t time.Time) string {
	return strconv.FormatInt(t.Unix(), 10) + "." + fill(strconv.Itoa(t.Nanosecond()))
}

// fill writes nanoseconds with their nine digits.
func fill(digits string) string {
	for len(digits) < 9 {
		digits = "0" + digits
	}
	return digits
}

func (f *Follower) hear(ctx context.Context, m events.Message) {
	id, at := m.Actor.ID, time.Unix(0, m.TimeNano)
	if m.Action != events.ActionDie && !f.heard(id, at) {
		f.look(ctx, id)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	runs := f.runs[id]
	last := len(runs) - 1
	known := slices.ContainsFunc(runs, func(r Run) bool { return r.From.Equal(at) })
	switch {
	case m.Action == events.ActionStart && !known:
		f.runs[id] = append(runs, Run{Container: Container{ID: id, Name: m.Actor.Attributes["name"]}, From: at})
	case m.Action == events.ActionDie && last >= 0 && runs[last].To.IsZero() && at.After(runs[last].From):
		runs[last].To = at
	}
}

// heard tells whether a start is known: Runs asks for all once more.
func (f *Follower) heard(id string, at time.Time) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.ContainsFunc(f.runs[id], func(r Run) bool { return r.From.Equal(at) })
}

// look remembers what a container is, and if it runs what it has mounted.
func (f *Follower) look(ctx context.Context, id string) {
	f.mu.Lock()
	known, volumes := f.seen[id], f.volume
	f.mu.Unlock()
	if volumes == nil {
		volumes, _ = f.engine.volumes(ctx) // without, a volume of the local driver lies where the engine says
	}
	c, err := f.engine.inspect(ctx, id, volumes)
	if err != nil || c == nil {
		return
	}
	if c.Running && c.Pid > 0 {
		if t, err := proc.Of(c.Pid); err == nil && c.sameProcess() {
			c.seen = t
		}
	}
	if c.seen == nil && known != nil {
		c.seen = known.seen
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.volume, f.seen[id] = volumes, c
}

// Runs are those since Follow, in no order. before are the containers that were
// listed then.
func (f *Follower) Runs(ctx context.Context, before []Container) ([]Run, error) {
	_, err := call(ctx, f.engine, "ask which containers were started", func(ctx context.Context) (struct{}, error) {
		return struct{}{}, f.listen(ctx, time.Now())
	})
	if err != nil {
		return nil, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	var out []Run
	for id, runs := range f.runs {
		c := f.seen[id]
		if i := slices.IndexFunc(before, func(b Container) bool { return b.ID == id }); c == nil && i >= 0 {
			c = &before[i]
		}
		for _, r := range runs {
			if c != nil {
				r.Container = *c
				r.Container.passed = c.seen == nil
			}
			r.Gone = c == nil
			out = append(out, r)
		}
	}
	return out, nil
}
