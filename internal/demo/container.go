package demo

import (
	"context"
	"errors"
	"fmt"

	"snapd/internal/freeze"
	"snapd/internal/run"
	"snapd/internal/workload"
	"snapd/internal/workload/dockertest"
)

// container writes in an engine of the demo's own, apart from the host's.
type container struct {
	docker *dockertest.Docker
	id     string
}

// newWriter starts a container, or a process where there is no engine.
func (s *show) newWriter(ctx context.Context, volume string) (writer, error) {
	c, err := startContainer(ctx, s.workdir.path("docker"), volume)
	if err == nil {
		s.undo = append(s.undo, c.stop)
		return c, nil
	}
	if ctx.Err() != nil {
		return nil, err
	}
	p, processErr := startProcess(ctx, volume, err)
	if processErr != nil {
		return nil, errors.Join(err, processErr)
	}
	s.undo = append(s.undo, p.stop)
	return p, nil
}

func startContainer(ctx context.Context, dir, volume string) (*container, error) {
	docker, err := dockertest.Start(ctx, dir)
	if err != nil {
		return nil, err
	}
	c := &container{docker: docker}
	if err := docker.ImportBusybox(ctx); err != nil {
		return nil, errors.Join(err, c.stop(ctx))
	}
	c.id, err = docker.Run(ctx, dockertest.Spec{
		Name:   "snapd-demo-writer",
		Mounts: []dockertest.Mount{{Source: volume, Target: "/data"}},
		Cmd:    []string{"sh", "-c", writeAllTheTime, "sh", "/data"},
	})
	if err != nil {
		return nil, errors.Join(err, c.stop(ctx))
	}
	return c, nil
}

func (c *container) what() string {
	return "A container (busybox, in a Docker engine of the demo's own)"
}

func (c *container) configuration() string {
	return fmt.Sprintf("\n[group.%s]\ncontainers = [%q]\nfreeze = \"freeze\"\n", group, "snapd-demo-writer")
}

func (c *container) engine(ctx context.Context) (*workload.Engine, error) {
	return workload.Connect(ctx, c.docker.Host)
}

func (c *container) processes(string) []freeze.Member { return nil }

func (c *container) stop(ctx context.Context) error {
	if c.docker == nil {
		return nil
	}
	docker := c.docker
	c.docker = nil
	return docker.Stop(ctx)
}

func subvolume(ctx context.Context, path string) error {
	_, err := run.Output(ctx, "btrfs", "subvolume", "create", path)
	return err
}
