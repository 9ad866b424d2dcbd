package workload

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"time"

	"snapd/internal/cgroup"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/mount"
	"github.com/docker/docker/api/types/volume"
)

// atOnce bounds how many questions the engine is asked at a time.
const atOnce = 8

// Containers lists all containers, running or not, by name. Those that vanish
// while they are being looked at are not in it. What is wrong with one of them is
// its Fault, and keeps no other back.
func (e *Engine) Containers(ctx context.Context) ([]Container, error) {
	list, err := call(ctx, e, "list containers", func(ctx context.Context) ([]container.Summary, error) {
		return e.api.ContainerList(ctx, container.ListOptions{All: true})
	})
	if err != nil {
		return nil, err
	}
	mount, err := cgroup.Mount()
	if err != nil && !errors.Is(err, cgroup.ErrNone) {
		return nil, err
	}
	limited, cancel := context.WithTimeout(ctx, 2*e.timeout) // also when many of them hang
	defer cancel()
	volumes, noVolumes := e.volumes(limited)
	images := e.imageLabels(limited, list)
	found := make([]*Container, len(list))
	_ = each(len(list), func(i int) error { // what is wrong with one is its Fault
		c, err := e.inspect(limited, list[i].ID, volumes)
		if err != nil {
			c = listed(list[i], volumes, err)
		}
		if c == nil {
			return nil
		}
		image := images[list[i].ImageID]
		c.ImageLabels, c.ImageGone = image.labels, image.gone
		c.compose()
		if c.Fault == nil {
			c.Fault = cmp.Or(image.err, c.lackOf(noVolumes), c.locate(mount))
		}
		found[i] = c
		return nil
	})
	if err := ctx.Err(); err != nil {
		return nil, e.explain("inspect containers", err)
	}
	var out []Container
	for _, c := range found {
		if c != nil {
			out = append(out, *c)
		}
	}
	slices.SortFunc(out, func(a, b Container) int { return cmp.Compare(a.Name, b.Name) })
	return out, nil
}

// call bounds one question to the engine.
func call[T any](ctx context.Context, e *Engine, what string, ask func(context.Context) (T, error)) (T, error) {
	ctx, cancel := context.WithTimeout(ctx, e.timeout)
	defer cancel()
	out, err := ask(ctx)
	if err != nil {
		return out, e.explain(what, err)
	}
	return out, nil
}

// each calls do for 0 to n-1, some at a time, and joins the errors.
func each(n int, do func(int) error) error {
	errs := make([]error, n)
	slots := make(chan struct{}, atOnce)
	var all sync.WaitGroup
	for i := range n {
		slots <- struct{}{}
		all.Go(func() {
			errs[i] = do(i)
			<-slots
		})
	}
	all.Wait()
	return errors.Join(errs...)
}

func (e *Engine) volumes(ctx context.Context) (map[string]*volume.Volume, error) {
	list, err := call(ctx, e, "list volumes", func(ctx context.Context) (volume.ListResponse, error) {
		return e.api.VolumeList(ctx, volume.ListOptions{})
	})
	out := map[string]*volume.Volume{}
	for _, v := range list.Volumes {
		out[v.Name] = v
	}
	return out, err
}

type imageLabels struct {
	labels map[string]string
	gone   bool // also when it could not be looked at
	err    error
}

// imageLabels reads the labels of every image that a container was made from.
func (e *Engine) imageLabels(ctx context.Context, list []container.Summary) map[string]imageLabels {
	var ids []string
	for _, c := range list {
		ids = append(ids, c.ImageID)
	}
	slices.Sort(ids)
	ids = slices.Compact(ids)
	found := make([]imageLabels, len(ids))
	_ = each(len(ids), func(i int) error { // of each, it is the fault of the containers made from it
		_, err := call(ctx, e, "inspect image "+ids[i], func(ctx context.Context) (struct{}, error) {
			image, err := e.api.ImageInspect(ctx, ids[i])
			if errdefs.IsNotFound(err) {
				found[i].gone = true
				return struct{}{}, nil
			}
			if err == nil && image.Config != nil {
				found[i].labels = image.Config.Labels
			}
			return struct{}{}, err
		})
		if err != nil {
			found[i] = imageLabels{gone: true, err: err}
		}
		return nil
	})
	out := map[string]imageLabels{}
	for i, id := range ids {
		out[id] = found[i]
	}
	return out
}

// inspect returns nil for a container that does not exist any more.
func (e *Engine) inspect(ctx context.Context, id string, volumes map[string]*volume.Volume) (*Container, error) {
	var raw []byte
	in, err := call(ctx, e, "inspect container "+id, func(ctx context.Context) (in container.InspectResponse, err error) {
		in, raw, err = e.api.ContainerInspectWithRaw(ctx, id, false)
		return in, err
	})
	if errdefs.IsNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	c := &Container{ID: in.ID, Name: strings.TrimPrefix(in.Name, "/"), Image: in.Image, Definition: raw, StopTimeout: stopPatience(in), Restarts: in.RestartCount}
	if in.State != nil {
		c.Running, c.Paused = runs(in.State)
		c.Pid, c.Restarting = in.State.Pid, in.State.Restarting
		if at, err := time.Parse(time.RFC3339Nano, in.State.StartedAt); err == nil && at.Year() > 1 {
			c.StartedAt = at
		}
	}
	if in.Config != nil {
		c.Labels, c.Image = in.Config.Labels, in.Config.Image
		c.DataDir = dataDir(c.Image, in.Config.Env)
	}
	for _, m := range in.Mounts {
		c.Mounts = append(c.Mounts, mountOf(m, volumes[m.Name]))
	}
	if in.HostConfig != nil {
		c.AutoRemove = in.HostConfig.AutoRemove
		c.subpaths(in.HostConfig.Mounts)
		for target := range in.HostConfig.Tmpfs { // --tmpfs is not among the mounts
			c.Mounts = append(c.Mounts, Mount{Kind: Tmpfs, Target: target, Writable: true, FSType: "tmpfs"})
		}
	}
	slices.SortFunc(c.Mounts, func(a, b Mount) int { return cmp.Compare(a.Target, b.Target) })
	return c, nil
}

func mountOf(m container.MountPoint, v *volume.Volume) Mount {
	out := Mount{Kind: string(m.Type), Volume: m.Name, Driver: m.Driver, Source: m.Source, Target: m.Destination, Writable: m.RW}
	if out.Kind == Tmpfs {
		out.FSType = "tmpfs"
	}
	if v == nil || v.Driver != "local" || v.Options["device"] == "" {
		return out
	}
	// The local driver mounts what its options name, while the volume is used.
	kind := v.Options["type"]
	bind := slices.ContainsFunc(strings.Split(v.Options["o"], ","), func(o string) bool { return o == "bind" || o == "rbind" })
	if bind && (kind == "" || kind == "none") {
		out.Source = v.Options["device"]
		return out
	}
	out.FSType = kind
	return out
}

// subpaths notes of which volumes only a part is mounted.
func (c *Container) subpaths(asked []mount.Mount) {
	for _, m := range asked {
		i := slices.IndexFunc(c.Mounts, func(o Mount) bool { return o.Target == m.Target && o.Kind == Volume })
		if i >= 0 && m.VolumeOptions != nil {
			c.Mounts[i].Subpath = m.VolumeOptions.Subpath
		}
	}
}

// Labels that Docker Compose puts on containers.
const (
	composeProject   = "com.docker.compose.project"
	composeService   = "com.docker.compose.service"
	composeDependsOn = "com.docker.compose.depends_on"
	composeHash      = "com.docker.compose.config-hash"
	composeNumber    = "com.docker.compose.container-number"
)

// compose reads Compose's labels. Compose also labels the images it builds,
// so equal labels alone mean nothing; but an image that a user pulled and
// ran by hand has all of them equal, and is in no project.
func (c *Container) compose() {
	own := func(label string) bool {
		v, ok := c.Labels[label]
		return ok && v != c.ImageLabels[label]
	}
	if !own(composeProject) && !own(composeHash) && !own(composeNumber) {
		return
	}
	c.Project, c.Service = c.Labels[composeProject], c.Labels[composeService]
	for dependency := range strings.SplitSeq(c.Labels[composeDependsOn], ",") {
		service, _, _ := strings.Cut(dependency, ":") // db:service_healthy:false
		if service = strings.TrimSpace(service); service != "" {
			c.DependsOn = append(c.DependsOn, service)
		}
	}
}
