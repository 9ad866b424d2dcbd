package main

import (
	"context"
	"errors"
	"os"
	"path/filepath"

	"snapd/internal/advice"
	"snapd/internal/agent"
	"snapd/internal/api"
	"snapd/internal/daemon"
)

// socketName is the agent's socket in the run directory.
const socketName = "agent.sock"

// calls gives what carries out this call: the agent, whenever its socket is
// there, or this process, when it is not, or when the caller names a
// configuration, repository or key of their own. done closes it.
func (c *cli) calls(ctx context.Context, needRoot bool) (_ api.Calls, done func(), err error) {
	if !c.where.own() {
		client, err := api.Connect(ctx, filepath.Join(c.where.runDir, socketName), c.screen.report)
		switch {
		case err == nil:
			return client, func() { _ = client.Close() }, nil // nothing was asked through it
		case errors.Is(err, os.ErrPermission):
			return nil, nil, advice.With(agent.ErrNotRoot, "run it as root, or let root put you into the group snapd-agent (usermod -aG snapd-agent NAME, then log in again), whose members may list, show, see the status and take snapshots")
		case !errors.Is(err, api.ErrNoAgent):
			return nil, nil, err
		}
	}
	a, err := c.agent(needRoot)
	if err != nil {
		return nil, nil, err
	}
	return daemon.Patient(a, func(error) {}), func() {}, nil // doctor says so
}

// do carries out a run and shows what came of it.
func (c *cli) do(ctx context.Context, groups []string, steps agent.Steps) (agent.Done, error) {
	calls, end, err := c.calls(ctx, steps.Snapshot || steps.Prune || !steps.Ship)
	if err != nil {
		return agent.Done{}, err
	}
	defer end()
	done, err := calls.Do(ctx, groups, steps)
	c.showPoints(done.Points)
	return done, err
}

// own tells whether the caller said something that is not the agent's.
func (w *where) own() bool {
	return w.config != "" || w.kit != "" || w.repository != "" || w.endpoint != "" || w.region != "" ||
		w.signer != "" || w.identity != "" || w.state != agent.DefaultState
}
