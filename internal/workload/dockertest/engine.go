// Package dockertest runs a real Docker engine of its own, with its own data,
// socket and containers, beside whatever else runs on the host. Tests,
// benchmarks and the demonstration use it; nothing in the agent does. It has
// no network and no registry: its image is made from a static busybox.
package dockertest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"

	"snapd/internal/proc"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/client"
	"golang.org/x/sys/unix"
)

// ErrNotInstalled means that dockerd is not in the PATH.
var ErrNotInstalled = errors.New("dockerd is not installed")

// startLimit and stopLimit are what a slow machine needs.
const (
	startLimit = 60 * time.Second
	stopLimit  = 30 * time.Second
)

// Docker is a running engine.
type Docker struct {
	Host string         // unix://…, for workload.Connect
	API  *client.Client // for what this package does not offer

	dir     string
	flags   []string
	pid     int
	stopped chan struct{} // closed when dockerd has ended
	died    error         // how, read after stopped
}

// Start runs an engine in dir, which should be short (a socket's path has at
// most 107 bytes) and is removed by Stop. The engine ends with this process,
// whatever ends it. flags are more of dockerd's own.
func Start(ctx context.Context, dir string, flags ...string) (*Docker, error) {
	if _, err := exec.LookPath("dockerd"); err != nil {
		return nil, fmt.Errorf("%w: install Debian's docker.io", ErrNotInstalled)
	}
	var errs error
	for _, storage := range []string{"overlay2", "vfs"} {
		d, err := start(ctx, dir, append([]string{"--storage-driver", storage}, flags...))
		if err == nil {
			return d, nil
		}
		errs = errors.Join(errs, fmt.Errorf("start dockerd with storage driver %s: %w", storage, err))
		if ctx.Err() != nil {
			break
		}
	}
	return nil, errs
}

func start(ctx context.Context, dir string, flags []string) (_ *Docker, err error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	d := &Docker{dir: dir, flags: flags, Host: "unix://" + filepath.Join(dir, "docker.sock")}
	if d.API, err = client.NewClientWithOpts(client.WithHost(d.Host), client.WithAPIVersionNegotiation()); err == nil {
		err = d.launch(ctx)
	}
	if err != nil {
		err = fmt.Errorf("%w; it said: %s", err, tail(filepath.Join(dir, "dockerd.log")))
		return nil, errors.Join(err, d.Stop(ctx))
	}
	return d, nil
}

// launch runs dockerd and waits until it answers.
func (d *Docker) launch(ctx context.Context) error {
	log, err := os.OpenFile(filepath.Join(d.dir, "dockerd.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	// The engine outlives ctx: Stop ends it. config-file keeps the host's own
	// configuration out.
	cmd := exec.Command("dockerd", append([]string{
		"--config-file", d.emptyConfig(), "--host", d.Host,
		"--data-root", filepath.Join(d.dir, "data"), "--exec-root", filepath.Join(d.dir, "exec"), "--pidfile", filepath.Join(d.dir, "pid"),
		"--iptables=false", "--ip6tables=false", "--bridge=none",
	}, d.flags...)...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM, Setpgid: true}
	d.stopped = make(chan struct{})
	started := make(chan error)
	go func() {
		// The kernel sends the signal when this thread ends, so it must last.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			d.died = cmd.Wait()
			close(d.stopped)
		}
	}()
	if err := <-started; err != nil {
		return err
	}
	d.pid = cmd.Process.Pid
	return d.await(ctx)
}

// Halt ends the engine and leaves its containers alone, which it does only
// when it was started with --live-restore.
func (d *Docker) Halt() error {
	if err := unix.Kill(d.pid, unix.SIGTERM); err != nil {
		return fmt.Errorf("halt dockerd: %w", err)
	}
	select {
	case <-d.stopped:
		return nil
	case <-time.After(stopLimit):
		return errors.New("halt dockerd: it goes on")
	}
}

// Again starts an engine that was halted.
func (d *Docker) Again(ctx context.Context) error {
	_ = os.Remove(filepath.Join(d.dir, "pid")) // it may be another process's by now
	return d.launch(ctx)
}

func (d *Docker) emptyConfig() string {
	name := filepath.Join(d.dir, "daemon.json")
	_ = os.WriteFile(name, []byte("{}\n"), 0o600) // dockerd itself says so when it is not there
	return name
}

// await waits until the engine answers.
func (d *Docker) await(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startLimit)
	defer cancel()
	for {
		_, err := d.API.Ping(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-d.stopped:
			return fmt.Errorf("dockerd ended: %w", d.died)
		case <-ctx.Done():
			return fmt.Errorf("dockerd does not answer: %w", err)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func tail(name string) string {
	content, err := os.ReadFile(name)
	if err != nil {
		return err.Error()
	}
	const most = 1500
	return string(bytes.TrimSpace(content[max(0, len(content)-most):]))
}

// Pid is the engine's process.
func (d *Docker) Pid() int { return d.pid }

// Suspend makes the engine hang, and returns when no thread of it runs any
// more. Its containers and containerd go on.
func (d *Docker) Suspend() error {
	if err := unix.Kill(d.pid, unix.SIGSTOP); err != nil {
		return fmt.Errorf("suspend dockerd: %w", err)
	}
	for begin := time.Now(); time.Since(begin) < stopLimit; time.Sleep(time.Millisecond) {
		stats, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", d.pid))
		if err != nil {
			return err
		}
		if !slices.ContainsFunc(stats, func(name string) bool {
			stat, err := os.ReadFile(name)
			return err == nil && !bytes.Contains(stat, []byte(") T "))
		}) {
			return nil
		}
	}
	return errors.New("suspend dockerd: it goes on")
}

// Resume lets a suspended engine go on.
func (d *Docker) Resume() error { return unix.Kill(d.pid, unix.SIGCONT) }

// Stop removes all containers, ends the engine and removes everything it left
// in its directory, whatever state it is in, also when ctx is cancelled.
func (d *Docker) Stop(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopLimit)
	defer cancel()
	errs := d.removeAll(ctx)
	if d.pid > 0 {
		_ = unix.Kill(d.pid, unix.SIGCONT) // a test may have stopped it
		_ = unix.Kill(d.pid, unix.SIGTERM)
		select {
		case <-d.stopped:
		case <-ctx.Done():
			errs = errors.Join(errs, errors.New("dockerd did not end in time and was killed"))
			_ = unix.Kill(-d.pid, unix.SIGKILL)
			<-d.stopped
		}
	}
	// Removing below a mount would remove what is mounted there.
	if err := unmountBelow(d.dir); err != nil {
		return errors.Join(errs, err)
	}
	return errors.Join(errs, os.RemoveAll(d.dir))
}

func (d *Docker) removeAll(ctx context.Context) error {
	if d.API == nil {
		return nil
	}
	if d.pid == 0 {
		return d.API.Close()
	}
	select {
	case <-d.stopped:
		return d.API.Close()
	default:
	}
	list, err := d.API.ContainerList(ctx, container.ListOptions{All: true})
	if err != nil {
		return errors.Join(err, d.API.Close())
	}
	var errs error
	for _, c := range list {
		errs = errors.Join(errs, d.Remove(ctx, c.ID))
	}
	return errors.Join(errs, d.API.Close())
}

// unmountBelow takes down what an engine that was killed left mounted.
func unmountBelow(dir string) error {
	mounts, err := proc.Own()
	if err != nil {
		return err
	}
	var errs error
	for _, mount := range slices.Backward(mounts) {
		if at := mount.Point; strings.HasPrefix(at, dir+"/") {
			if err := unix.Unmount(at, unix.MNT_DETACH); err != nil && !errors.Is(err, unix.EINVAL) {
				errs = errors.Join(errs, fmt.Errorf("unmount %s: %w", at, err))
			}
		}
	}
	return errs
}
