package daemon

import "context"

// turn lets one call after the other take restore points. They would wait for
// each other's window anyway, but not for as long as the timers of twenty groups
// after a boot need. The call whose turn it is has put a value into it.
type turn chan struct{}

func newTurn() turn { return make(turn, 1) }

func (t turn) wait(ctx context.Context) (done func(), err error) {
	select {
	case t <- struct{}{}:
		return func() { <-t }, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}
