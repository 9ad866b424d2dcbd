package workload

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"snapd/internal/advice"
	"snapd/internal/cgroup"
	"snapd/internal/proc"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/volume"
)

// listed is a container that could not be inspected, by what the list says of
// it: enough to tell which group is refused for it, and where it may write to.
func listed(s container.Summary, volumes map[string]*volume.Volume, why error) *Container {
	c := &Container{ID: s.ID, Name: s.ID, Image: s.Image, Labels: s.Labels, StopTimeout: stopMost, Fault: why}
	// One that is linked has other names too: theirs have the other's in front.
	for _, name := range s.Names {
		if name = strings.TrimPrefix(name, "/"); !strings.Contains(name, "/") {
			c.Name = name
		}
	}
	c.Paused = s.State == container.StatePaused
	c.Running = c.Paused || s.State == container.StateRunning || s.State == container.StateRestarting // it may by now
	c.Restarting = s.State == container.StateRestarting
	for _, m := range s.Mounts {
		c.Mounts = append(c.Mounts, mountOf(m, volumes[m.Name]))
	}
	slices.SortFunc(c.Mounts, func(a, b Mount) int { return cmp.Compare(a.Target, b.Target) })
	return c
}

// lackOf is the fault of a container that has volumes, when the engine does not
// say what these are: one may be a share of another host.
func (c *Container) lackOf(noVolumes error) error {
	if noVolumes == nil || !slices.ContainsFunc(c.Mounts, func(m Mount) bool { return m.Kind == Volume }) {
		return nil
	}
	return noVolumes
}

// fault of a container with its name, nil when it has none.
func (c Container) fault() error {
	if c.Fault == nil {
		return nil
	}
	if strings.Contains(c.Fault.Error(), "container "+c.Name) {
		return c.Fault
	}
	return fmt.Errorf("container %s: %w", c.Name, c.Fault)
}

// Faults are what is wrong with the members of the group, each of which keeps a
// restore point from being taken.
func (g Group) Faults() error {
	var all []error
	for _, c := range g.Members {
		all = append(all, c.fault())
	}
	return errors.Join(all...)
}

// locate finds the cgroup of a running container through its first process,
// whose cgroup must carry the container's id.
func (c *Container) locate(mount string) error {
	if !c.Running || c.Pid <= 0 {
		return nil
	}
	in, err := cgroup.Of(c.Pid)
	if errors.Is(err, os.ErrNotExist) {
		return nil // it has just ended; package freeze will see that
	}
	if err != nil {
		return fmt.Errorf("read the cgroup of container %s: %w", c.Name, err)
	}
	if !in.Carries(c.ID) {
		// Of one that has ended the kernel may say the top of each hierarchy.
		if p, err := proc.Look(c.Pid); errors.Is(err, os.ErrNotExist) || err == nil && !p.Alive() {
			return nil
		}
		return advice.With(fmt.Errorf("container %s: process %d is not in a cgroup of that container, so that it cannot be frozen: %w", c.Name, c.Pid, ErrElsewhere),
			"start the container anew; if it moves its process itself, take that right from it")
	}
	path := cgroup.Cut(in.V2, c.ID)
	if mount == "" || path == "" {
		return nil
	}
	c.Cgroup, err = cgroup.Dir(mount, path)
	return err
}
