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
	// headerPatience is how long a connection may say nothing: on a busy host a
	// caller that has connected can wait long for its turn. How many of them one user
	// has is limited apart.
	headerPatience = time.Minute
	// maxHeader bounds what comes before a request, in bytes.
	maxHeader = 4 << 10
	// most is how many connections of root are served at once; those beyond wait
	// in the socket's queue. Those of members are limited apart.
	most = 256
	// How many calls of root look at the host, and list repositories, at once, and
	// how many of members; the others wait. The kinds do not wait for each other: a
	// repository that does not answer keeps no user from the status. A slot is had
	// until the answer is sent, since it takes memory until then.
	looksAtOnce   = 4
	listsAtOnce   = 8
	membersLooks  = 2
	membersLists  = 3
	membersTaking = 4
	// readPatience is how long a member's call that reads may take, the wait for
	// its slot included.
	readPatience = 30 * time.Second
)

// Options are what a Server works with. All but Reload, Newest, Known, Needed, Alive
// and Log have to be set.
type Options struct {
	// Calls gives what carries out one call and reports to its caller. Its
	// error is that of the call: a configuration that is wrong, for example.
	Calls func(report agent.Report) (Calls, error)
	// Caller says which user is at the other end.
	Caller func(c *net.UnixConn) (Caller, error)
	// Newest is when the last restore point of each group was taken. A group
	// without one is not among them.
	Newest func() (map[string]time.Time, error)
	// Known tells whether all of these are groups of this host. Its error is that
	// of the call.
	Known func(ctx context.Context, groups []string) error
	// Reload reads the configuration anew. An error means that the old one
	// stays in force.
	Reload func() error
	// Idle ends Serve when no call has come for so long, unless Needed says
	// that there is something to look after. Nil means that there is not.
	Idle   time.Duration
	Needed func() bool
	// Tick is how often Alive is called at least, as long as the loop that accepts
	// calls turns: it is the sign that this loop lives. It is told what is under
	// way. What it does keeps no call waiting.
	Tick  time.Duration
	Alive func(calls []string)
	Log   *slog.Logger
}

// Server serves one socket.
type Server struct {
	Options
	limits *limits
	looks  *slots // limits calls that ask the engine about every container
	lists  *slots // limits calls that read the points of repositories
	takes  *slots // limits calls of members that take restore points

	refusals *refusals
	patience time.Duration // readPatience

	mu sync.Mutex
	standing
	calls map[*call]struct{}
}

// standing is what the loop that accepts calls goes by.
type standing struct {
	active int       // connections
	roots  int       // those of root
	last   time.Time // when their number changed
	broken error     // a call panicked: what it holds is released only when this process ends

	retiring bool // it is to end when it can: see Retire
	retired  bool // and does
}

// NewServer makes a server.
func NewServer(o Options) *Server {
	if o.Newest == nil {
		o.Newest = func() (map[string]time.Time, error) { return nil, nil }
	}
	if o.Known == nil {
		o.Known = func(context.Context, []string) error { return nil }
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
	return &Server{
		Options: o, limits: newLimits(), refusals: newRefusals(), patience: readPatience, calls: map[*call]struct{}{},
		looks: newSlots(looksAtOnce, membersLooks), lists: newSlots(listsAtOnce, membersLists), takes: newSlots(most, membersTaking),
	}
}

// Serve answers calls until no call has come for Idle, or ctx ends: then calls
// under way are cancelled with ctx's cause, and waited for. A connection that was
// accepted is served. One that was not stays in the socket's queue. systemd holds
// the socket too, so that the queue outlives this process and no call is lost.
// Serve closes the listener.
func (s *Server) Serve(ctx context.Context, l *net.UnixListener) error {
	ctx, makeWay := context.WithCancelCause(ctx)
	defer makeWay(nil)
	l.SetUnlinkOnClose(false)                                                // it is not ours to remove
	wake := context.AfterFunc(ctx, func() { _ = l.SetDeadline(time.Now()) }) // a closed one has ended already
	defer wake()
	feed := newFeed(l.Addr())
	web := &http.Server{
		Handler:           s.routes(),
		ReadHeaderTimeout: headerPatience,
		MaxHeaderBytes:    maxHeader,
		BaseContext:       func(net.Listener) context.Context { return ctx },
		ConnContext:       func(ctx context.Context, c net.Conn) context.Context { return context.WithValue(ctx, connKey{}, c) },
		ErrorLog:          slog.NewLogLogger(s.Log.Handler(), slog.LevelWarn),
	}
	web.SetKeepAlivesEnabled(false)
	ended := make(chan error, 1)
	go func() { ended <- web.Serve(feed) }()
	beats, stop := make(chan struct{}, 1), make(chan struct{})
	var all sync.WaitGroup
	all.Go(func() { s.showLife(beats) })
	all.Go(func() { s.refusals.tell(s.Log, stop) })
	err := s.accept(ctx, makeWay, l, feed, beats)
	err = errors.Join(err, l.Close())
	close(beats)
	close(stop)
	all.Wait()
	close(feed.closed)
	if e := <-ended; !errors.Is(e, net.ErrClosed) {
		err = errors.Join(err, e)
	}
	return errors.Join(err, web.Close())
}

func (s *Server) state() standing {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.standing
}

// count counts a connection in or out.
func (s *Server) count(who Caller, n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.active += n
	if who.Root {
		s.roots += n
	}
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
