package workload

import (
	"context"
	"fmt"

	"github.com/containerd/errdefs"
)

// Pause, Unpause and State make an Engine what package freeze asks for. Pause
// and Unpause take longer than other calls may, so ctx bounds them: the
// engine goes on with them all the same when it ends.

// Pause makes a running container stand still.
func (e *Engine) Pause(ctx context.Context, id string) error {
	if err := e.api.ContainerPause(ctx, id); err != nil {
		return e.explain("pause container "+id, err)
	}
	return nil
}

// Unpause lets it go again.
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
	return in.State.Running, in.State.Paused, nil
}
