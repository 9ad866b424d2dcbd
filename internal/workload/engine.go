package workload

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strings"
	"time"

	"snapd/internal/advice"

	"github.com/docker/docker/client"
	"golang.org/x/sys/unix"
)

// Errors of the engine.
var (
	// ErrNoEngine means that no engine listens on this host.
	ErrNoEngine = errors.New("no container engine runs here")
	// ErrHangs means that an engine listens and did not answer in time.
	ErrHangs = errors.New("the container engine does not answer")
	// ErrUnsupported means an engine that snapd does not handle.
	ErrUnsupported = errors.New("this container engine is not supported")
	// ErrElsewhere means that a container's process is not where the engine has
	// put it.
	ErrElsewhere = errors.New("it was moved to another one, or runs on another host, in a virtual machine or in a cgroup namespace of its own")
)

// DefaultTimeout bounds every call to the engine that names no other limit. An
// engine on a busy host, or one that has just been started, needs seconds to list
// its containers; nothing is frozen while it is asked.
const DefaultTimeout = 20 * time.Second

// writeLimit bounds what is sent to a command that may hold a lock.
const writeLimit = 5 * time.Second

// Engine is the Docker engine of this host.
type Engine struct {
	api     *client.Client
	host    string
	timeout time.Duration
	root    string // where it keeps its data
}

// Option of Connect.
type Option func(*Engine)

// WithTimeout bounds every call to the engine by d instead of DefaultTimeout.
func WithTimeout(d time.Duration) Option { return func(e *Engine) { e.timeout = d } }

// Connect reaches the engine at host, such as unix:///var/run/docker.sock; ""
// means DOCKER_HOST or the usual place. It must be an engine of this very
// host, since the processes of its containers are looked at. ErrNoEngine,
// ErrHangs and ErrUnsupported are wrapped. The caller closes the result.
func Connect(ctx context.Context, host string, options ...Option) (_ *Engine, err error) {
	e := &Engine{host: host, timeout: DefaultTimeout}
	for _, o := range options {
		o(e)
	}
	if e.host == "" {
		e.host = os.Getenv(client.EnvOverrideHost)
	}
	if e.host == "" {
		e.host = client.DefaultDockerHost
	}
	socket, local := strings.CutPrefix(e.host, "unix://")
	if !local {
		return nil, advice.With(fmt.Errorf("%w: %s may be on another host, and snapd must reach the engine by its Unix socket", ErrUnsupported, e.host),
			"set %s to a Unix socket of this host, such as unix:///var/run/docker.sock", client.EnvOverrideHost)
	}
	if err := e.dial(ctx, socket); err != nil {
		return nil, err
	}
	if e.api, err = client.NewClientWithOpts(client.WithHost(e.host), client.WithAPIVersionNegotiation()); err != nil {
		return nil, fmt.Errorf("connect to the container engine at %s: %w", e.host, err)
	}
	if err := e.check(ctx); err != nil {
		return nil, errors.Join(err, e.Close())
	}
	return e, nil
}

// Close closes the connections.
func (e *Engine) Close() error { return e.api.Close() }

// Root is the directory in which it keeps its data.
func (e *Engine) Root() string { return e.root }

// Host is the address that was connected to.
func (e *Engine) Host() string { return e.host }

func (e *Engine) dial(ctx context.Context, socket string) error {
	d := net.Dialer{Timeout: e.timeout}
	c, err := d.DialContext(ctx, "unix", socket)
	switch {
	case errors.Is(err, unix.ENOENT):
		return fmt.Errorf("%w: there is no socket at %s", ErrNoEngine, socket)
	case errors.Is(err, unix.ECONNREFUSED):
		return fmt.Errorf("%w: no engine listens at %s", ErrNoEngine, socket)
	case errors.Is(err, unix.EACCES):
		return advice.With(fmt.Errorf("connect to the container engine: no right to use %s", socket), "run the same command as root")
	case err != nil:
		return e.explain("connect", err)
	}
	return c.Close()
}

// check asks which engine answers.
func (e *Engine) check(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, e.timeout)
	defer cancel()
	version, err := e.api.ServerVersion(ctx)
	if err != nil {
		return e.explain("ask for its version", err)
	}
	for _, c := range version.Components {
		if strings.Contains(strings.ToLower(c.Name), "podman") {
			return advice.With(fmt.Errorf("%w: Podman answers at %s, and only the Docker engine is handled yet", ErrUnsupported, e.host),
				"set %s to the socket of a Docker engine", client.EnvOverrideHost)
		}
	}
	info, err := e.api.Info(ctx)
	if err != nil {
		return e.explain("ask how it is set up", err)
	}
	e.root = info.DockerRootDir
	if slices.ContainsFunc(info.SecurityOptions, func(o string) bool { return strings.Contains(o, "name=rootless") }) {
		return advice.With(fmt.Errorf("%w: the engine at %s is rootless, and its mounts are not those of this host", ErrUnsupported, e.host), "use an engine that root runs")
	}
	return nil
}

// explain says what was asked of the engine and, if it hung, so.
func (e *Engine) explain(what string, err error) error {
	var timeout net.Error
	if errors.Is(err, context.DeadlineExceeded) || errors.As(err, &timeout) && timeout.Timeout() {
		return advice.With(fmt.Errorf("%s: %w within %v (%s)", what, ErrHangs, e.timeout, e.host), "look at the engine's log, or restart the engine")
	}
	return fmt.Errorf("container engine at %s: %s: %w", e.host, what, err)
}
