package lvm

import (
	"context"
	"errors"
	"sync"
)

// streamWatch looks at pools and classic snapshots for as long as a stream is
// open, whether a reader reads from it or not: a ship waits for the network, and
// the pool's writers do not.
type streamWatch struct {
	stop func()
	over sync.WaitGroup
}

// watch starts the watch of a stream of v. It gives the stream up, and then
// drops its snapshot, when that keeps the pool full.
func (w *sending) watch(v volume) *streamWatch {
	ctx, stop := context.WithCancel(w.ctx)
	g := &streamWatch{stop: stop}
	g.over.Go(func() {
		for wait := lookSoon; pause(ctx, wait) == nil; {
			wait = lookEvery
			now, err := w.driver.load(ctx)
			if err == nil && !now.soon {
				continue
			}
			wait = lookSoon
			if err == nil && !now.alarm {
				continue
			}
			if pool, give := w.endangers(ctx, v); give {
				w.giveUp(errPoolFirst(pool))
				w.makeRoom()
				return
			}
		}
	})
	return g
}

// endangers does what can be done for every pool, and tells whether the
// stream of v stands in the way of the rest.
func (w *sending) endangers(ctx context.Context, v volume) (pool volume, give bool) {
	all, reading, err := w.driver.lookAfter(ctx)
	if err != nil {
		return pool, false // it is tried again soon, and Tend tells of it
	}
	pool, err = all.pool(v)
	return pool, err == nil && reading[v.uuid]
}

// makeRoom closes the snapshots, so that they can be dropped.
func (w *sending) makeRoom() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed {
		return
	}
	err := w.release()
	if w.relieve != nil {
		err = errors.Join(err, w.relieve())
	}
	w.closeErr = err
}

// end stops it. It may be called on nil, and twice.
func (g *streamWatch) end() {
	if g == nil {
		return
	}
	g.stop()
	g.over.Wait()
}
