package api

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"snapd/internal/agent"
)

const (
	// headerPatience is how long a connection may say nothing.
	headerPatience = 10 * time.Second
	// most is how many connections are served at once; those beyond wait in
	// the socket's queue.
	most = 256
	// How many calls look at the host, and list repositories, at once; the
	// others wait. The two kinds do not wait for each other: a repository that
	// does not answer keeps no user from the status.
	looksAtOnce = 4
	listsAtOnce = 8
)

// Options are what a Server works with. All but Reload, Newest, Needed, Alive and
// Log have to be set.
type Options struct {
	// Calls gives what carries out one call and reports to its caller. Its
	// error is that of the call: a configuration that is wrong, for example.
	Calls func(report agent.Report) (Calls, error)
	// Caller says which user is at the other end.
	Caller func(c *net.UnixConn) (Caller, error)
	// Newest is when the last restore point of a group was taken, the zero time
	// when there is none.
	Newest func(group string) (time.Time, error)
	// Reload reads the configuration anew. An error means that the old one
	// stays in force.
	Reload func() error
	// Idle ends Serve when no call has come for so long, unless Needed says
	// that there is something to look after. Nil means that there is not.
	Idle   time.Duration
	Needed func() bool
	// Tick is how often Alive is called, by the loop that accepts calls: it is
	// the sign that this loop lives. It is told what is under way.
	Tick  time.Duration
	Alive func(calls []string)
	Log   *slog.Logger
}

// Server serves one socket.
type Server struct {
	Options
	limits *limits
	looks  chan struct{} // holds calls that ask the engine about every container
	lists  chan struct{} // holds calls that read the points of repositories

	mu     sync.Mutex
	active int       // connections
	last   time.Time // when their number changed
	calls  map[*call]struct{}
	broken error // a call panicked: what it holds is released only when this process ends
}

// NewServer makes a server.
func NewServer(o Options) *Server {
	if o.Newest == nil {
		o.Newest = func(string) (time.Time, error) { return time.Time{}, nil }
	}
	if o.Alive == nil {
		o.Alive = func([]string) {}
	}
	if o.Needed == nil {
		o.Needed = func() bool { return false }
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Reload == nil {
		o.Reload = func() error { return nil }
	}
	return &Server{Options: o, limits: newLimits(), looks: make(chan struct{}, looksAtOnce), lists: make(chan struct{}, listsAtOnce), calls: map[*call]struct{}{}}
}

// Serve answers calls until no call has come for Idle, or ctx ends: then calls
// under way are cancelled with ctx's cause, and waited for. A connection that was
// accepted is served. One that was not stays in the socket's queue. systemd holds
// the socket too, so that the queue outlives this process and no call is lost.
// Serve closes the listener.
func (s *Server) Serve(ctx context.Context, l *net.UnixListener) error {
	l.SetUnlinkOnClose(false)                                                // it is not ours to remove
	wake := context.AfterFunc(ctx, func() { _ = l.SetDeadline(time.Now()) }) // a closed one has ended already
	defer wake()
	feed := &feed{conns: make(chan net.Conn), closed: make(chan struct{}), addr: l.Addr()}
	web := &http.Server{
		Handler:           s.routes(),
		ReadHeaderTimeout: headerPatience,
		BaseContext:       func(net.Listener) context.Context { return ctx },
		ConnContext:       func(ctx context.Context, c net.Conn) context.Context { return context.WithValue(ctx, connKey{}, c) },
		ErrorLog:          slog.NewLogLogger(s.Log.Handler(), slog.LevelWarn),
	}
	web.SetKeepAlivesEnabled(false)
	ended := make(chan error, 1)
	go func() { ended <- web.Serve(feed) }()
	err := s.accept(ctx, l, feed)
	err = errors.Join(err, l.Close())
	close(feed.closed)
	if e := <-ended; !errors.Is(e, net.ErrClosed) {
		err = errors.Join(err, e)
	}
	return errors.Join(err, web.Close())
}

// accept is the loop that lives. It alone accepts connections and decides that
// it has been idle for long enough, so that nothing can come in between.
func (s *Server) accept(ctx context.Context, l *net.UnixListener, feed *feed) error {
	s.count(0)
	looked := false // no connection waited at the last look: on a busy host all of Idle can pass before it
	for {
		active, last, broken := s.state()
		left := s.Idle - time.Since(last)
		stopping := ctx.Err() != nil || broken != nil
		if active == 0 && (stopping || looked && left <= 0 && !s.Needed()) {
			return broken
		}
		s.Alive(s.under())
		if stopping || active >= most {
			s.pause(ctx, stopping)
			continue
		}
		wait := min(s.Tick, max(left, time.Millisecond))
		if active > 0 || looked && left <= 0 {
			wait = s.Tick
		}
		if err := l.SetDeadline(time.Now().Add(wait)); err != nil { // after Alive, which may take its time
			return err
		}
		if ctx.Err() != nil { // it may have come before the deadline was set
			continue
		}
		c, err := l.AcceptUnix()
		switch looked = isTimeout(err); {
		case err == nil:
			s.take(c, l, feed)
		case looked:
		case errors.Is(err, net.ErrClosed):
			return err
		default: // no descriptors are left, for example: it passes
			s.Log.Warn("accept a call: " + err.Error())
			s.pause(ctx, false)
		}
	}
}

// take hands a connection on, unless its user has too many.
func (s *Server) take(c *net.UnixConn, l *net.UnixListener, feed *feed) {
	who, err := s.Caller(c)
	if err != nil {
		who = Caller{UID: -1} // refused when it sends its request; all of them count as one user
	}
	if !s.limits.connect(who) {
		_ = c.Close() // it has said nothing yet
		return
	}
	s.count(1)
	feed.conns <- &conn{UnixConn: c, closed: func() {
		s.limits.disconnect(who)
		s.count(-1)
		_ = l.SetDeadline(time.Now()) // look whether that was the last one
	}}
}

func isTimeout(err error) bool {
	timeout, ok := errors.AsType[net.Error](err)
	return ok && timeout.Timeout()
}

// pause lets calls under way end.
func (s *Server) pause(ctx context.Context, stopping bool) {
	t := time.NewTimer(min(s.Tick, 50*time.Millisecond))
	defer t.Stop()
	if stopping {
		<-t.C
		return
	}
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

func (s *Server) state() (active int, last time.Time, broken error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.active, s.last, s.broken
}

func (s *Server) count(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.active += n
	s.last = time.Now()
}

// under says what is under way, in a person's words.
func (s *Server) under() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []string
	for c := range s.calls {
		out = append(out, c.String())
	}
	return out
}

func (s *Server) panicked(v any, stack []byte) error {
	err := fmt.Errorf("a fault of snapd itself: %v", v)
	s.Log.Error("call: "+err.Error()+"; the agent ends so that nothing stays held", "stack", string(stack))
	s.mu.Lock()
	defer s.mu.Unlock()
	s.broken = err
	return err
}

// feed hands accepted connections to the HTTP server.
type feed struct {
	conns  chan net.Conn
	closed chan struct{}
	addr   net.Addr
}

func (f *feed) Accept() (net.Conn, error) {
	select {
	case c := <-f.conns:
		return c, nil
	case <-f.closed:
		return nil, net.ErrClosed
	}
}

// Close is called by the HTTP server when it ends, which it does when closed is.
func (f *feed) Close() error   { return nil }
func (f *feed) Addr() net.Addr { return f.addr }

// conn tells when it is closed.
type conn struct {
	*net.UnixConn
	once   sync.Once
	closed func()
}

func (c *conn) Close() error {
	err := c.UnixConn.Close()
	c.once.Do(c.closed)
	return err
}

type connKey struct{}
