package hold

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"
)

// immortal is a session that may not be ended.
type immortal struct{ Session }

func (i immortal) Kill() error { return unix.EPERM }

type immortals struct{ *runner }

func (r immortals) Start(ctx context.Context, c Command) (Session, error) {
	s, err := r.runner.Start(ctx, c)
	return immortal{s}, err
}

// TestAHookThatCannotBeEnded is not said to have been ended.
func TestAHookThatCannotBeEnded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &runner{t: t, programs: []program{deaf}}
		o := Run(t.Context(), immortals{r}, Hook{Target: Target{ID: "1", Name: "db"}, Args: []string{"x"}}, time.Minute)
		err := o.Failure()
		if !errors.Is(err, ErrTooLong) || !errors.Is(err, unix.EPERM) {
			t.Fatalf("%+v", o)
		}
		for _, says := range []string{"it took too long (hook-timeout is 1m0s), and could not be ended", "it may run still: operation not permitted"} {
			if !strings.Contains(err.Error(), says) {
				t.Errorf("%q does not say %q", err, says)
			}
		}
		if strings.Contains(err.Error(), "it was ended") {
			t.Errorf("%q says that it was ended", err)
		}
		for _, s := range r.started {
			_ = s.Kill()
			<-s.ended
		}
	})
}
