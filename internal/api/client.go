package api

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"slices"
	"sync"
	"syscall"
	"time"

	"snapd/internal/advice"
	"snapd/internal/agent"
	"snapd/internal/point"
)

const (
	// dialPatience is how long a full queue, or a socket between two agents,
	// is tried again.
	dialPatience = 30 * time.Second
	dialPause    = 20 * time.Millisecond
	// cancelPatience is how long a cancelled call may take to be undone: the
	// longest window, and what it takes to thaw all members.
	cancelPatience = 30 * time.Second
	// restarts is how many agents in a row may hand a call to the next.
	restarts = 20
)

// errUnheard says that a connection ended before the agent had said anything.
var errUnheard = errors.New("no agent took the call")

// Client carries out Calls in the agent that listens on a socket.
type Client struct {
	path   string
	report agent.Report

	mu    sync.Mutex
	first net.Conn // of Connect, for the first call
}

// Connect reaches the agent; systemd starts it if it is not there. The error is
// ErrNoAgent when no agent listens, and os.ErrPermission when the caller may not
// connect. report hears what happens during calls; it may be nil. The caller
// closes the client.
func Connect(ctx context.Context, path string, report agent.Report) (*Client, error) {
	if report == nil {
		report = func(agent.Event) {}
	}
	c := &Client{path: path, report: report}
	conn, err := c.dial(ctx)
	if err != nil {
		return nil, err
	}
	c.first = conn
	return c, nil
}

// Close closes the connection that no call has used.
func (c *Client) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.first == nil {
		return nil
	}
	err := c.first.Close()
	c.first = nil
	return err
}

func (c *Client) dial(ctx context.Context) (net.Conn, error) {
	var d net.Dialer
	for end := time.Now().Add(dialPatience); ; {
		conn, err := d.DialContext(ctx, "unix", c.path)
		switch {
		case err == nil:
			return conn, nil
		case errors.Is(err, os.ErrNotExist), errors.Is(err, syscall.ECONNREFUSED):
			return nil, fmt.Errorf("%w: %w", ErrNoAgent, err)
		case !errors.Is(err, syscall.EAGAIN) || time.Now().After(end): // EAGAIN: its queue is full
			return nil, fmt.Errorf("connect to the agent: %w", err)
		}
		if err := wait(ctx, dialPause); err != nil {
			return nil, err
		}
	}
}

func wait(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Do is as Calls says. When the agent is restarted in the middle, the steps
// that can go on are called again in the next one.
func (c *Client) Do(ctx context.Context, groups []string, steps agent.Steps) (agent.Done, error) {
	all := agent.Done{Pruned: agent.Pruned{Keep: []agent.Verdict{}, Drop: []agent.Verdict{}}}
	unheard := false // no agent took the last call
	for n := 0; ; n++ {
		var done agent.Done
		err := c.call(ctx, pathDo, request{Groups: groups, Steps: steps}, &done)
		if unheard = n > 0 && !unheard && errors.Is(err, errUnheard); unheard {
			// It waited in the queue of a socket that an upgrade took away. What
			// is left after a restart may be called again in any case.
			done.Left = steps
		}
		all.Points = merge(all.Points, done.Points)
		all.Pruned.Keep = append(all.Pruned.Keep, done.Pruned.Keep...)
		all.Pruned.Drop = append(all.Pruned.Drop, done.Pruned.Drop...)
		all.Left = done.Left
		if err == nil || !done.Left.Any() || ctx.Err() != nil || n == restarts {
			return all, err
		}
		c.report(agent.Event{Kind: agent.Warning, Text: "the agent is being restarted; the next one goes on"})
		if err := c.reconnect(ctx); err != nil {
			return all, err
		}
		steps = done.Left
	}
}

// reconnect waits out the moment in which an upgrade takes the socket away.
func (c *Client) reconnect(ctx context.Context) error {
	for end := time.Now().Add(dialPatience); ; {
		conn, err := c.dial(ctx)
		if err == nil {
			c.mu.Lock()
			defer c.mu.Unlock()
			c.first = conn
			return nil
		}
		if !errors.Is(err, ErrNoAgent) || time.Now().After(end) {
			return err
		}
		if err := wait(ctx, 10*dialPause); err != nil {
			return err
		}
	}
}

// merge adds points; of one that is there already, the later says more.
func merge(points, more []point.Point) []point.Point {
	for _, p := range more {
		if i := slices.IndexFunc(points, func(o point.Point) bool { return o.ID == p.ID }); i >= 0 {
			points[i] = p
		} else {
			points = append(points, p)
		}
	}
	return points
}

// Prune is as Calls says.
func (c *Client) Prune(ctx context.Context, groups []string, dryRun bool) (agent.Pruned, error) {
	out := agent.Pruned{Keep: []agent.Verdict{}, Drop: []agent.Verdict{}}
	err := c.call(ctx, pathPrune, request{Groups: groups, DryRun: dryRun}, &out)
	return out, err
}

// List is as Calls says.
func (c *Client) List(ctx context.Context, group string) ([]point.Point, error) {
	var out []point.Point
	err := c.call(ctx, pathList, request{Group: group}, &out)
	return out, err
}

// Show is as Calls says.
func (c *Client) Show(ctx context.Context, wanted string) (point.Point, error) {
	var out point.Point
	err := c.call(ctx, pathShow, request{Point: wanted}, &out)
	return out, err
}

// Status is as Calls says.
func (c *Client) Status(ctx context.Context) (agent.Status, error) {
	out := agent.Status{Groups: []agent.GroupStatus{}}
	err := c.call(ctx, pathStatus, request{}, &out)
	return out, err
}

// Reload has the agent read its configuration anew. An error means that it
// keeps the old one.
func (c *Client) Reload(ctx context.Context) error {
	return c.call(ctx, pathReload, request{}, nil)
}

// call makes one call on one connection. When ctx ends, the agent is told and
// its answer awaited: the client must not report an end while a window is still
// open.
func (c *Client) call(ctx context.Context, path string, req request, result any) (err error) {
	conn, err := c.connection(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }() // everything that matters was read
	hurry := context.AfterFunc(ctx, func() {
		_ = conn.SetReadDeadline(time.Now().Add(cancelPatience)) // a dead connection ends by itself
		if half, ok := conn.(*net.UnixConn); ok {
			_ = half.CloseWrite()
		}
	})
	defer hurry()
	body, err := json.Marshal(req)
	if err != nil {
		return err
	}
	// The call ends through its connection, not through a context: see above.
	r, err := http.NewRequestWithContext(context.WithoutCancel(ctx), http.MethodPost, "http://snapd-agent"+path, bytes.NewReader(body))
	if err != nil {
		return err
	}
	r.Close = true
	var text bytes.Buffer // written at once: net/http hides why a body could not be written
	if err := r.Write(&text); err != nil {
		return err
	}
	if _, err := conn.Write(text.Bytes()); err != nil && !errors.Is(err, syscall.EPIPE) { // what refused the call may be there to read
		return lost(ctx, err)
	}
	answer, err := http.ReadResponse(bufio.NewReader(conn), r)
	if errors.Is(err, syscall.ECONNRESET) {
		return lost(ctx, fmt.Errorf("%w: %w", errUnheard, err))
	}
	if err != nil {
		return lost(ctx, err)
	}
	defer answer.Body.Close() //nolint:errcheck // see above
	return c.read(ctx, answer, result)
}

func (c *Client) connection(ctx context.Context) (net.Conn, error) {
	c.mu.Lock()
	conn := c.first
	c.first = nil
	c.mu.Unlock()
	if conn != nil {
		return conn, nil
	}
	return c.dial(ctx)
}

// read passes events on and returns what the last line says.
func (c *Client) read(ctx context.Context, answer *http.Response, result any) error {
	dec := json.NewDecoder(answer.Body)
	for {
		var l line
		if err := dec.Decode(&l); err != nil {
			return lost(ctx, err)
		}
		if l.Event != nil {
			if e, known := l.Event.event(); known {
				c.report(e)
			}
		}
		if !l.End {
			continue
		}
		if l.Result != nil && result != nil {
			if err := json.Unmarshal(l.Result, result); err != nil {
				return fmt.Errorf("read the agent's answer: %w", err)
			}
		}
		return l.Error.err()
	}
}

// lost says that no answer came. Whether the call was carried out is not known.
func lost(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return advice.With(fmt.Errorf("%w (%w); nothing stays frozen, since its end thaws", ErrLost, err),
		"see why with: journalctl -u snapd-agent.service; then run the same command again")
}
