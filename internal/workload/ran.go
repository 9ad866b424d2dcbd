package workload

import (
	"context"
	"time"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/container"
)

// Ran are those of the given containers that were started since they were listed
// and before over, whether they still run or not. The list says that they did not
// run.
func (e *Engine) Ran(ctx context.Context, before []Container, over time.Time) ([]Container, error) {
	now := make([]container.InspectResponse, len(before))
	err := each(len(before), func(i int) error {
		_, err := call(ctx, e, "inspect container "+before[i].ID, func(ctx context.Context) (struct{}, error) {
			in, err := e.api.ContainerInspect(ctx, before[i].ID)
			if errdefs.IsNotFound(err) {
				return struct{}{}, nil
			}
			now[i] = in
			return struct{}{}, err
		})
		return err
	})
	if err != nil {
		return nil, err
	}
	var out []Container
	for i, in := range now {
		if in.ContainerJSONBase == nil || in.State == nil {
			continue
		}
		at, err := time.Parse(time.RFC3339Nano, in.State.StartedAt)
		if err != nil || at.Equal(before[i].StartedAt) {
			continue
		}
		// It may have been started before the last time too.
		if at.After(over) && in.RestartCount <= before[i].Restarts+1 {
			continue
		}
		out = append(out, before[i])
	}
	return out, nil
}
