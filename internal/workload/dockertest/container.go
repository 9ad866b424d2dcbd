package dockertest

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/image"
	"github.com/docker/docker/api/types/mount"
	"github.com/docker/docker/api/types/volume"
)

// Image is the name of the image that ImportBusybox makes.
const Image = "snapd-busybox:latest"

// Spec is a container to run. It has no network and keeps no log.
type Spec struct {
	Name   string // at least two characters
	Image  string // "" means Image
	Labels map[string]string
	Mounts []Mount
	Cmd    []string                                       // "" means to sleep for ever
	Signal string                                         // that stops it; "" means the engine's usual one
	Once   bool                                           // it is removed when it ends, as with --rm
	Change func(*container.Config, *container.HostConfig) // whatever else; nil for nothing
}

// As is a Change: the container runs as a user of its image, with an
// environment.
func As(user string, env ...string) func(*container.Config, *container.HostConfig) {
	return func(c *container.Config, _ *container.HostConfig) { c.User, c.Env = user, env }
}

// StartedAgain is a Change: the engine starts the container again when it ends.
func StartedAgain(_ *container.Config, h *container.HostConfig) {
	h.RestartPolicy = container.RestartPolicy{Name: container.RestartPolicyAlways}
}

// StopTimeout is a Change: the container may take so many seconds to end.
func StopTimeout(seconds int) func(*container.Config, *container.HostConfig) {
	return func(c *container.Config, _ *container.HostConfig) { c.StopTimeout = &seconds }
}

// Mount of a container.
type Mount struct {
	Volume   string // name of a volume, made if it does not exist
	Source   string // or a path of the host
	Target   string // in the container; with neither of the two, a tmpfs
	ReadOnly bool
}

// ImportBusybox makes the image from the host's static busybox; changes are
// lines of a Dockerfile, such as LABEL a=b.
func (d *Docker) ImportBusybox(ctx context.Context, changes ...string) error {
	return d.Import(ctx, Image, changes...)
}

// Import makes such an image under another name.
func (d *Docker) Import(ctx context.Context, name string, changes ...string) error {
	rootfs, err := busyboxTar()
	if err != nil {
		return err
	}
	out, err := d.API.ImageImport(ctx, image.ImportSource{Source: rootfs, SourceName: "-"}, name, image.ImportOptions{Changes: changes})
	if err != nil {
		return fmt.Errorf("import image %s: %w", name, err)
	}
	defer out.Close()
	_, err = io.Copy(io.Discard, out)
	return err
}

func busyboxTar() (io.Reader, error) {
	path, err := exec.LookPath("busybox")
	if err != nil {
		return nil, errors.New("busybox is not installed: install Debian's busybox-static")
	}
	program, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, dir := range []string{"bin/", "tmp/", "run/", "var/", "etc/", "data/"} {
		if err := w.WriteHeader(&tar.Header{Name: dir, Typeflag: tar.TypeDir, Mode: 0o755}); err != nil {
			return nil, err
		}
	}
	if err := w.WriteHeader(&tar.Header{Name: "bin/busybox", Typeflag: tar.TypeReg, Mode: 0o755, Size: int64(len(program))}); err != nil {
		return nil, err
	}
	if _, err := w.Write(program); err != nil {
		return nil, err
	}
	for _, applet := range []string{"sh", "sleep", "dd", "cat", "date", "mkdir", "mv", "sync", "true", "echo", "cp", "rm"} {
		if err := w.WriteHeader(&tar.Header{Name: "bin/" + applet, Typeflag: tar.TypeSymlink, Linkname: "busybox", Mode: 0o777}); err != nil {
			return nil, err
		}
	}
	if err := w.WriteHeader(&tar.Header{Name: "var/run", Typeflag: tar.TypeSymlink, Linkname: "/run", Mode: 0o777}); err != nil {
		return nil, err
	}
	return &b, w.Close()
}

// Run makes a container, starts it and returns its id.
func (d *Docker) Run(ctx context.Context, s Spec) (string, error) {
	id, err := d.Create(ctx, s)
	if err != nil {
		return "", err
	}
	if err := d.API.ContainerStart(ctx, id, container.StartOptions{}); err != nil {
		return "", errors.Join(fmt.Errorf("start container %s: %w", s.Name, err), d.Remove(ctx, id))
	}
	return id, nil
}

// Create makes a container without starting it.
func (d *Docker) Create(ctx context.Context, s Spec) (string, error) {
	if s.Image == "" {
		s.Image = Image
	}
	if len(s.Cmd) == 0 {
		s.Cmd = []string{"/bin/sleep", "2147483647"}
	}
	c := &container.Config{Image: s.Image, Cmd: s.Cmd, Labels: s.Labels, NetworkDisabled: true}
	c.StopSignal = s.Signal
	h := &container.HostConfig{AutoRemove: s.Once, NetworkMode: "none", LogConfig: container.LogConfig{Type: "none"}}
	for _, m := range s.Mounts {
		h.Mounts = append(h.Mounts, m.mount())
	}
	if s.Change != nil {
		s.Change(c, h)
	}
	made, err := d.API.ContainerCreate(ctx, c, h, nil, nil, s.Name)
	if err != nil {
		return "", fmt.Errorf("make container %s: %w", s.Name, err)
	}
	return made.ID, nil
}

func (m Mount) mount() mount.Mount {
	out := mount.Mount{Target: m.Target, ReadOnly: m.ReadOnly}
	switch {
	case m.Volume != "":
		out.Type, out.Source = mount.TypeVolume, m.Volume
	case m.Source != "":
		out.Type, out.Source = mount.TypeBind, m.Source
	default:
		out.Type = mount.TypeTmpfs
	}
	return out
}

// BindVolume makes a named volume of the local driver that lies at a path of
// the host.
func (d *Docker) BindVolume(ctx context.Context, name, path string) error {
	return d.Volume(ctx, name, map[string]string{"type": "none", "o": "bind", "device": path})
}

// Volume makes a named volume of the local driver.
func (d *Docker) Volume(ctx context.Context, name string, options map[string]string) error {
	_, err := d.API.VolumeCreate(ctx, volume.CreateOptions{Name: name, DriverOpts: options})
	return err
}

// Begin starts a container that does not run.
func (d *Docker) Begin(ctx context.Context, id string) error {
	return d.API.ContainerStart(ctx, id, container.StartOptions{})
}

// End stops a container as its settings say.
func (d *Docker) End(ctx context.Context, id string) error {
	return d.API.ContainerStop(ctx, id, container.StopOptions{})
}

// Remove kills and removes a container with its anonymous volumes.
func (d *Docker) Remove(ctx context.Context, id string) error {
	return d.API.ContainerRemove(ctx, id, container.RemoveOptions{Force: true, RemoveVolumes: true})
}
