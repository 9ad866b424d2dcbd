package daemon

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"

	"snapd/internal/advice"
	"snapd/internal/agent"
	"snapd/internal/api"

	systemd "snapd/internal/host"
)

// patient is an agent whose ships ask a shutdown to wait, and make way for it.
type patient struct {
	*agent.Agent
	noLogind func(error)
	taken    *atomic.Bool // all restore points of its call are
}

var _ api.HandsOn = (*patient)(nil)

// Patient has the ships of an agent ask a shutdown to wait, and end when it comes
// all the same. noLogind is told when logind cannot be asked; the ship goes on.
func Patient(a *agent.Agent, noLogind func(error)) api.Calls {
	return &patient{Agent: a, noLogind: noLogind, taken: &atomic.Bool{}}
}

// CanGoOn is as api.HandsOn says.
func (p *patient) CanGoOn() bool { return p.taken.Load() }

// Do is as api.Calls says.
func (p *patient) Do(ctx context.Context, groups []string, steps agent.Steps) (agent.Done, error) {
	if !steps.Ship {
		return p.Agent.Do(ctx, groups, steps)
	}
	why := "ships " + strings.Join(groups, ", ")
	if len(groups) == 0 {
		why = "ships what the repositories lack"
	}
	ctx, done, err := systemd.Delay(ctx, why, api.ErrShutdown)
	defer done()
	if err != nil {
		p.noLogind(err)
	}
	out, err := p.Agent.Do(ctx, groups, steps)
	if cause := context.Cause(ctx); errors.Is(cause, api.ErrShutdown) {
		out.Left = agent.Steps{}
		err = advice.With(errors.Join(err, cause), "do nothing: a ship that was under way goes on after the boot")
	}
	return out, err
}
