package workload

import (
	"context"

	"snapd/internal/cgroup"

	"github.com/docker/docker/api/types/container"
)

// Started lists the containers that run now and were not running when the
// given ones were listed, or were started anew since: by their process, since
// a container keeps its id. One that was started and has ended again is not
// among them.
func (e *Engine) Started(ctx context.Context, before []Container) ([]Container, error) {
	list, err := call(ctx, e, "list containers", func(ctx context.Context) ([]container.Summary, error) {
		return e.api.ContainerList(ctx, container.ListOptions{})
	})
	if err != nil {
		return nil, err
	}
	known := map[string]Container{}
	for _, c := range before {
		known[c.ID] = c
	}
	var fresh []string
	for _, c := range list {
		if !known[c.ID].sameProcess() {
			fresh = append(fresh, c.ID)
		}
	}
	if len(fresh) == 0 {
		return nil, nil
	}
	volumes, err := e.volumes(ctx)
	if err != nil {
		return nil, err
	}
	found := make([]*Container, len(fresh))
	err = each(len(fresh), func(i int) (err error) {
		found[i], err = e.inspect(ctx, fresh[i], volumes)
		if known[fresh[i]].Fault != nil {
			err = nil // said already, to those whom it concerns
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	var out []Container
	for _, c := range found {
		if c != nil && c.Running && c.Pid != known[c.ID].Pid {
			out = append(out, *c)
		}
	}
	return out, nil
}

// sameProcess tells whether the process that a container had when it was
// listed is still there and still the container's.
func (c Container) sameProcess() bool {
	if !c.Running || c.Pid <= 0 {
		return false
	}
	in, err := cgroup.Of(c.Pid)
	return err == nil && in.Carries(c.ID)
}
