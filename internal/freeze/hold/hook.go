package hold

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Hook is a command that runs to its end.
type Hook struct {
	Target
	Args []string
	Mark string // as in Command
}

// Outcome is what became of a hook.
type Outcome struct {
	Exit   int           // its status; -1 when it did not end by itself
	Took   time.Duration // until it had ended
	Output string        // the end of what it printed, both streams as they came
	Err    error         // why it did not end by itself, or could not be run
}

// Failure is nil for a hook that ended with status 0.
func (o Outcome) Failure() error {
	switch {
	case o.Err != nil:
		return fmt.Errorf("%w; %s", o.Err, lastWords(o.Output))
	case o.Exit != 0:
		return fmt.Errorf("it ended with status %d; %s", o.Exit, lastWords(o.Output))
	}
	return nil
}

// ErrTooLong is wrapped when the time of a hook was up.
var ErrTooLong = errors.New("it took too long")

// errNotEnded is wrapped when a command that was to end could not be ended.
var errNotEnded = errors.New("it may run still")

// Run runs a hook. Its standard input is empty. When the time-out is over or
// ctx is cancelled it is killed with everything in its process group.
func Run(ctx context.Context, r Runner, h Hook, timeout time.Duration) Outcome {
	begin := time.Now()
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	out := &tail{}
	exit, err := run(ctx, r, Command{Target: h.Target, Args: h.Args, Mark: h.Mark, Stdout: out, Stderr: out})
	if errors.Is(err, context.DeadlineExceeded) && ctx.Err() != nil {
		what := "it was ended because %w (hook-timeout is %v)"
		if errors.Is(err, errNotEnded) {
			what = "%w (hook-timeout is %v), and could not be ended"
		}
		err = errors.Join(fmt.Errorf(what, ErrTooLong, timeout), err)
	}
	if err != nil {
		exit = -1
	}
	return Outcome{Exit: exit, Took: time.Since(begin), Output: out.String(), Err: err}
}

func run(ctx context.Context, r Runner, c Command) (exit int, err error) {
	s, err := r.Start(ctx, c)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	if err := s.CloseStdin(); err != nil {
		return 0, errors.Join(err, s.Kill())
	}
	exit, err = s.Wait(ctx)
	if err == nil {
		return exit, nil
	}
	if killed := s.Kill(); killed != nil {
		return 0, errors.Join(err, fmt.Errorf("%w: %w", errNotEnded, killed))
	}
	// What it printed last, and that it has ended.
	short, cancel := context.WithTimeout(context.WithoutCancel(ctx), patience)
	defer cancel()
	if _, gone := s.Wait(short); gone != nil && ctx.Err() != nil {
		err = errors.Join(err, fmt.Errorf("the engine does not confirm that it has ended: %w", gone))
	}
	return 0, err
}
