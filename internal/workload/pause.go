package workload

import (
	"context"
	"fmt"
	"time"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/container"
)

// Pause, Unpause, State, Stop, Start and Health make an Engine what package
// freeze asks for. Pause, Unpause and Start take longer than other calls may,
// so ctx bounds them: the engine goes on with them all the same when it ends.

// Pause freezes a running container.
func (e *Engine) Pause(ctx context.Context, id string) error {
	if err := e.api.ContainerPause(ctx, id); err != nil {
		return e.explain("pause container "+id, err)
	}
	return nil
}

// Unpause thaws it again.
func (e *Engine) Unpause(ctx context.Context, id string) error {
	if err := e.api.ContainerUnpause(ctx, id); err != nil {
		return e.explain("unpause container "+id, err)
	}
	return nil
}

// State tells whether a container runs and whether the engine has it paused.
// One that does not exist does not run.
func (e *Engine) State(ctx context.Context, id string) (running, paused bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, e.timeout)
	defer cancel()
	in, err := e.api.ContainerInspect(ctx, id)
	switch {
	case errdefs.IsNotFound(err):
		return false, false, nil
	case err != nil:
		return false, false, e.explain("inspect container "+id, err)
	case in.State == nil:
		return false, false, fmt.Errorf("container engine at %s: inspect container %s: it says nothing about its state", e.host, id)
	}
	running, paused = runs(in.State)
	return running, paused, nil
}

// runs tells whether a container has a process. The engine says that one that it
// is about to start again runs; it can be neither paused nor stopped then.
func runs(s *container.State) (running, paused bool) {
	running = s.Running && !s.Restarting && !s.Dead
	return running, running && s.Paused
}

// Stop ends a container as its own settings say, and returns when it has
// ended. One that does not run is no error.
func (e *Engine) Stop(ctx context.Context, id string) error {
	patience, err := e.stopPatience(ctx, id)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, patience+stopExtra)
	defer cancel()
	err = e.api.ContainerStop(ctx, id, container.StopOptions{})
	if err != nil && !errdefs.IsNotFound(err) {
		return e.explain("stop container "+id, err)
	}
	return nil
}

// What the engine gives a container that sets no time of its own, and what it
// may take beyond that to kill it and clean up.
const (
	stopDefault = 10 * time.Second
	stopMost    = 10 * time.Minute // also for a container that asks for no limit
	stopExtra   = 20 * time.Second
)

// stopPatience is how long a container may take to end before it is killed.
func (e *Engine) stopPatience(ctx context.Context, id string) (time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, e.timeout)
	defer cancel()
	in, err := e.api.ContainerInspect(ctx, id)
	switch {
	case errdefs.IsNotFound(err):
		return 0, nil
	case err != nil:
		return 0, e.explain("inspect container "+id, err)
	}
	return stopPatience(in), nil
}

func stopPatience(in container.InspectResponse) time.Duration {
	if in.Config == nil || in.Config.StopTimeout == nil {
		return stopDefault
	}
	if asked := time.Duration(*in.Config.StopTimeout) * time.Second; asked >= 0 {
		return min(asked, stopMost)
	}
	return stopMost
}

// Start starts a container again. One that runs, or exists no more, is no
// error.
func (e *Engine) Start(ctx context.Context, id string) error {
	if err := e.api.ContainerStart(ctx, id, container.StartOptions{}); err != nil && !errdefs.IsNotFound(err) {
		return e.explain("start container "+id, err)
	}
	return nil
}

// Health is what its health check says, "" when it has none.
func (e *Engine) Health(ctx context.Context, id string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, e.timeout)
	defer cancel()
	in, err := e.api.ContainerInspect(ctx, id)
	switch {
	case errdefs.IsNotFound(err):
		return "", nil
	case err != nil:
		return "", e.explain("inspect container "+id, err)
	case in.State == nil || in.State.Health == nil || in.State.Health.Status == container.NoHealthcheck:
		return "", nil
	}
	return in.State.Health.Status, nil
}
