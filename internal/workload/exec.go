package workload

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"time"

	"snapd/internal/advice"
	"snapd/internal/cgroup"
	"snapd/internal/proc"

	"github.com/docker/docker/api/types"
	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/client"
	"github.com/docker/docker/pkg/stdcopy"
	"golang.org/x/sys/unix"
)

// Command is something to run in a container.
type Command struct {
	Args           []string
	Mark           string    // in the environment of its processes, for EndMarked; "" for none
	User           string    // "" means the user of the container
	Stdout, Stderr io.Writer // must not block; an error ends the session
}

// Session is a command that runs in a container with its standard input open.
// The input ends when it is closed here and also when this process dies: the
// engine closes it with the connection. The command does not end by that;
// one that reads its input does.
type Session struct {
	engine    *Engine
	container string
	exec      string // the engine's id of it
	mark      string // of this session alone
	attached  types.HijackedResponse

	ended     chan struct{} // closed when its output is at its end, or the session was closed
	streamErr error         // read after ended
	known     chan struct{} // closed when process is known or will never be
	process   process       // read after known
	closing   sync.Once
	stop      context.CancelFunc
	watchers  sync.WaitGroup
}

// process is one of the host; one that has been started since, under the same
// number, has another start.
type process struct {
	pid   int    // 0: not known
	start string // see proc.Process
}

// Exec starts a command in a running container. Whether it could be started
// is known from Wait: the engine says so with status 126 or 127. ctx bounds
// the start, not the command. The caller closes the session.
func (e *Engine) Exec(ctx context.Context, id string, c Command) (*Session, error) {
	mark := c.Mark + markEnd + rand.Text()
	made, err := call(ctx, e, "prepare a command in container "+id, func(ctx context.Context) (container.ExecCreateResponse, error) {
		return e.api.ContainerExecCreate(ctx, id, container.ExecOptions{
			User: c.User, Cmd: c.Args, Env: []string{markName + "=" + mark}, AttachStdin: true, AttachStdout: true, AttachStderr: true,
		})
	})
	if err != nil {
		return nil, err
	}
	attached, err := e.attach(ctx, made.ID)
	if err != nil {
		return nil, e.explain("start a command in container "+id, err)
	}
	watch, stop := context.WithCancel(context.WithoutCancel(ctx))
	s := &Session{
		engine: e, container: id, mark: mark, exec: made.ID, attached: attached, stop: stop,
		ended: make(chan struct{}), known: make(chan struct{}),
	}
	s.watchers.Go(func() {
		defer close(s.ended)
		_, s.streamErr = stdcopy.StdCopy(c.Stdout, c.Stderr, attached.Reader)
	})
	s.watchers.Go(func() {
		defer close(s.known)
		s.process = s.find(watch)
	})
	return s, nil
}

// attach starts the command and takes over the connection. The client heeds
// no context there, so that snapd would wait for ever for a hanging engine.
// So the connection itself gets a deadline until the engine has answered.
func (e *Engine) attach(ctx context.Context, exec string) (types.HijackedResponse, error) {
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		d := net.Dialer{Timeout: e.timeout}
		c, err := d.DialContext(ctx, "unix", strings.TrimPrefix(e.host, "unix://"))
		if err != nil {
			return nil, err
		}
		return c, c.SetDeadline(time.Now().Add(e.timeout))
	}
	api, err := client.NewClientWithOpts(client.WithHost(e.host), client.WithVersion(e.api.ClientVersion()), client.WithDialContext(dial))
	if err != nil {
		return types.HijackedResponse{}, err
	}
	defer api.Close() //nolint:errcheck // it has no idle connections: the only one is taken over
	attached, err := api.ContainerExecAttach(ctx, exec, container.ExecAttachOptions{})
	if err != nil {
		return attached, err
	}
	return attached, attached.Conn.SetDeadline(time.Time{})
}

// find asks the engine which process of the host the command is. It is done
// early, so that Kill needs no engine.
func (s *Session) find(ctx context.Context) process {
	for ctx.Err() == nil {
		in, err := s.inspect(ctx)
		if err != nil {
			return process{}
		}
		if in.Pid > 0 {
			p, err := proc.Look(in.Pid)
			if err != nil || !s.carries(in.Pid) {
				return process{} // it has ended
			}
			return process{pid: p.PID, start: p.Start}
		}
		select {
		case <-s.ended:
			return process{}
		case <-time.After(5 * time.Millisecond):
		}
	}
	return process{}
}

func (s *Session) inspect(ctx context.Context) (container.ExecInspect, error) {
	return call(ctx, s.engine, "ask for a command in container "+s.container, func(ctx context.Context) (container.ExecInspect, error) {
		return s.engine.api.ContainerExecInspect(ctx, s.exec)
	})
}

// Write sends to the command's standard input. It does not wait as long as other
// calls to the engine may: an application's lock may depend on it.
func (s *Session) Write(p []byte) (int, error) {
	if err := s.attached.Conn.SetWriteDeadline(time.Now().Add(min(s.engine.timeout, writeLimit))); err != nil {
		return 0, err
	}
	n, err := s.attached.Conn.Write(p)
	if err != nil {
		return n, s.engine.explain("write to a command in container "+s.container, err)
	}
	return n, nil
}

// CloseStdin ends the command's standard input. It may be called twice.
func (s *Session) CloseStdin() error {
	err := s.attached.CloseWrite()
	if errors.Is(err, net.ErrClosed) || errors.Is(err, unix.ENOTCONN) {
		return nil
	}
	return err
}

// Wait waits until the command has ended and everything that it started has
// closed its output, and returns its exit status.
func (s *Session) Wait(ctx context.Context) (int, error) {
	select {
	case <-ctx.Done():
		return 0, ctx.Err()
	case <-s.ended:
	}
	if s.streamErr != nil {
		return 0, fmt.Errorf("read what a command in container %s prints: %w", s.container, s.streamErr)
	}
	// The engine closes the connection a moment before it knows the status.
	ctx, cancel := context.WithTimeout(ctx, s.engine.timeout)
	defer cancel()
	for {
		in, err := s.inspect(ctx)
		if err != nil {
			return 0, err
		}
		if !in.Running {
			return in.ExitCode, nil
		}
		select {
		case <-ctx.Done():
			return 0, fmt.Errorf("a command in container %s: the engine lost its output, and it still runs: %w", s.container, ctx.Err())
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// Started waits until the engine says that the command runs, and fails if it
// does not or has ended already. What the engine prints when it cannot start a
// command comes like the command's own output.
func (s *Session) Started(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-s.known:
	}
	if s.process.pid == 0 {
		return fmt.Errorf("a command in container %s: the engine does not say that it runs", s.container)
	}
	return nil
}

// killPatience is how long Kill waits for the engine to say which process a command
// is: one that comes before the engine has started it would end nothing, and the
// command would run afterwards.
const killPatience = 5 * time.Second

// errMayRun says that a command may be running still.
var errMayRun = errors.New("the engine has not said whether it started it: it may run still")

// Kill ends the command and what it started, without asking the engine: those
// that have its mark, and those of their process groups and of the command's, if
// they are still the same and in the container. Of a command that the engine has
// not started yet it waits for that; a process with its mark shows that it has,
// also while the engine says nothing.
func (s *Session) Kill() error {
	deadline := time.After(killPatience)
	groups := map[process]bool{}
	for pause := killPause; ; pause = killPause {
		ended, err := endMarked(func(pid int, mark string) bool {
			ours := mark == s.mark && s.carries(pid)
			if ours {
				groups[groupOf(pid)] = true
			}
			return ours
		})
		known := s.known
		switch {
		case len(ended) > 0:
			// What it started in the meantime is found by another look.
			known, pause = nil, killPause/10
		case len(groups) > 0:
			return errors.Join(err, s.killGroups(groups))
		}
		select {
		case <-known:
			return errors.Join(err, s.killGroups(groups))
		case <-s.ended:
			return errors.Join(err, s.killGroups(groups))
		case <-deadline:
			return errors.Join(err, advice.With(fmt.Errorf("end a command in container %s: %w", s.container, errMayRun), "run: snapd thaw, once the engine answers"))
		case <-time.After(pause):
		}
	}
}

// killPause is how long Kill waits between two looks at the processes.
const killPause = 50 * time.Millisecond

// killGroups ends what has no mark any more.
func (s *Session) killGroups(groups map[process]bool) error {
	select {
	case <-s.known:
		groups[s.process] = true
	default:
	}
	var errs error
	for p := range groups {
		errs = errors.Join(errs, p.kill(s.carries))
	}
	return errs
}

// groupOf is the process that leads the group of pid.
func groupOf(pid int) process {
	group, err := unix.Getpgid(pid)
	if err != nil {
		return process{}
	}
	p, err := proc.Look(group)
	if err != nil {
		return process{pid: group} // it has ended, and its number is its group's still
	}
	return process{pid: group, start: p.Start}
}

func (s *Session) carries(pid int) bool {
	in, err := cgroup.Of(pid)
	return err == nil && in.Carries(s.container)
}

// Close leaves the command: its input ends, its output is not read any
// more. It may be called twice.
func (s *Session) Close() error {
	s.closing.Do(func() {
		s.stop()
		s.attached.Close()
	})
	s.watchers.Wait()
	return nil
}

// kill ends the process, and those of its group: the engine starts every
// command as the leader of one. The group may outlive its leader, and its
// number is not given away before it has ended.
func (p process) kill(ours func(pid int) bool) error {
	if p.pid <= 1 {
		return nil
	}
	pids, err := proc.All()
	if err != nil {
		return err
	}
	var errs error
	for _, pid := range pids {
		if !p.leads(pid) || !ours(pid) {
			continue
		}
		errs = errors.Join(errs, proc.Kill(pid, func() bool { return p.leads(pid) && ours(pid) }))
	}
	return errs
}

// leads tells whether pid is the process or one of its group.
func (p process) leads(pid int) bool {
	if pid == p.pid {
		now, err := proc.Look(pid)
		return err == nil && now.Start == p.start
	}
	group, err := unix.Getpgid(pid)
	return err == nil && group == p.pid
}
