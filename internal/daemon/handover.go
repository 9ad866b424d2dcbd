package daemon

import (
	"context"
	"time"

	"snapd/internal/api"

	systemd "snapd/internal/host"
)

// untilStopped gives the context of all calls: it ends with the reason why the
// agent has to. A client that reads that another agent takes over calls again.
func (d *Daemon) untilStopped(outer context.Context) (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(context.WithoutCancel(outer))
	stop := context.AfterFunc(outer, func() {
		cause := api.ErrStopping
		if restarting(ctx) {
			cause = api.ErrRestarting
		}
		d.Log.Info(cause.Error() + "; calls under way are ended")
		cancel(cause)
	})
	return ctx, func() {
		stop()
		cancel(nil)
	}
}

// comeBack has systemd start the next agent at once. Where it cannot, a timer does so
// within ten minutes.
func (d *Daemon) comeBack(ctx context.Context) {
	ctx, done := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer done()
	u, err := systemd.OpenUnits(ctx)
	if err != nil {
		return
	}
	defer u.Close()
	if err := u.Restart(ctx, systemd.AgentService); err != nil {
		d.Log.Warn(err.Error(), "error", err.Error())
	}
}

func restarting(ctx context.Context) bool {
	ctx, done := context.WithTimeout(ctx, 2*time.Second)
	defer done()
	u, err := systemd.OpenUnits(ctx)
	if err != nil {
		return false
	}
	defer u.Close()
	return u.Restarting(ctx, systemd.AgentService)
}
