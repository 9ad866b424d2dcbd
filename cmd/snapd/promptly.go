package main

import (
	"context"
	"time"
)

// grace is how long a call that only looks may go on after it was told to end:
// most ends by itself, and says more then.
const grace = 700 * time.Millisecond

// promptly calls do, which looks and changes nothing, and leaves it behind when
// ctx ends and it does not: what hangs must not keep the program from ending.
func promptly[T any](ctx context.Context, do func() (T, error)) (out T, err error) {
	type answer struct {
		out T
		err error
	}
	answers := make(chan answer, 1)
	go func() {
		out, err := do()
		answers <- answer{out, err}
	}()
	select {
	case a := <-answers:
		return a.out, a.err
	case <-ctx.Done():
	}
	select {
	case a := <-answers:
		return a.out, a.err
	case <-time.After(grace):
		return out, ctx.Err()
	}
}
