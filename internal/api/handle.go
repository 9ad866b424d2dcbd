package api

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"runtime/debug"
	"strings"
	"sync"
	"time"

	"snapd/internal/advice"
	"snapd/internal/agent"
	"snapd/internal/point"
)

// right says which users may make a call.
type right int

const (
	rootOnly right = iota
	members
)

// op is one call of the API.
type op struct {
	path string
	may  func(request) right
	name func(request) string // what it is, for people
	// queue holds calls of a kind that only so many may make at once; nil does not.
	queue func(*Server) chan struct{}
	do    func(ctx context.Context, s *Server, c Calls, r request) (any, error)
}

func ops() []op {
	always := func(r right) func(request) right { return func(request) right { return r } }
	named := func(name string) func(request) string { return func(request) string { return name } }
	looks := func(s *Server) chan struct{} { return s.looks }
	lists := func(s *Server) chan struct{} { return s.lists }
	return []op{
		{
			path: pathDo,
			may: func(r request) right {
				if r.Steps == (agent.Steps{Snapshot: true}) {
					return members
				}
				return rootOnly
			},
			name: func(r request) string { return strings.TrimSpace(said(r.Steps) + " " + strings.Join(r.Groups, " ")) },
			do: func(ctx context.Context, s *Server, c Calls, r request) (any, error) {
				if r.Steps.Snapshot && len(r.Groups) == 0 {
					return nil, advice.With(advice.Usagef("no group is named"), "name at least one; snapd status lists them")
				}
				done, err := c.Do(ctx, r.Groups, r.Steps)
				for i := range done.Points {
					done.Points[i] = public(done.Points[i])
				}
				if !errors.Is(context.Cause(ctx), ErrRestarting) {
					done.Left = agent.Steps{}
				}
				s.summarize(done)
				return done, err
			},
		},
		{
			path: pathPrune, may: always(rootOnly),
			name: func(r request) string { return strings.TrimSpace("prune " + strings.Join(r.Groups, " ")) },
			do: func(ctx context.Context, _ *Server, c Calls, r request) (any, error) {
				return c.Prune(ctx, r.Groups, r.DryRun)
			},
		},
		{
			path: pathList, may: always(members), queue: lists, name: named("list"),
			do: func(ctx context.Context, _ *Server, c Calls, r request) (any, error) {
				points, err := c.List(ctx, r.Group)
				for i := range points {
					points[i] = public(points[i])
				}
				return points, err
			},
		},
		{
			path: pathShow, may: always(members), queue: lists, name: named("show"),
			do: func(ctx context.Context, _ *Server, c Calls, r request) (any, error) {
				p, err := c.Show(ctx, r.Point)
				return public(p), err
			},
		},
		{
			path: pathStatus, may: always(members), queue: looks, name: named("status"),
			do: func(ctx context.Context, _ *Server, c Calls, _ request) (any, error) { return c.Status(ctx) },
		},
	}
}

// public is a point as it may leave the agent: the definitions of its
// containers hold passwords.
func public(p point.Point) point.Point {
	p.Containers = nil
	return p
}

func (s *Server) routes() http.Handler {
	mux := http.NewServeMux()
	for _, o := range ops() {
		mux.Handle("POST "+o.path, s.handler(o))
	}
	mux.Handle("POST "+pathReload, s.handler(op{
		path: pathReload, may: func(request) right { return rootOnly }, name: func(request) string { return "reload" },
	}))
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		refuse(r.Context(), w, http.StatusNotFound, advice.With(
			advice.Usagef("this agent does not know the call %s: program and agent are of different versions", r.URL.Path),
			"run: systemctl restart snapd-agent.service"))
	})
	return mux
}

// call is one that is under way.
type call struct {
	what  string
	who   Caller
	began time.Time
	mu    sync.Mutex
	last  string // event
}

func (c *call) String() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	out := c.what
	if !c.who.Root {
		out += fmt.Sprintf(" (user %d)", c.who.UID)
	}
	if c.last != "" {
		out += ": " + c.last
	}
	return out
}

func (c *call) note(e agent.Event) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if e.Kind == agent.Progress {
		c.last = fmt.Sprintf("%s, %d MiB", e.Text, e.Bytes>>20)
	}
}

func (s *Server) handler(o op) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		who, req, err := s.admit(r, o)
		if err != nil {
			s.Log.Warn(fmt.Sprintf("refused %s: %v", o.name(req), err), "uid", who.UID, "error", err.Error())
			refuse(r.Context(), w, http.StatusForbidden, err)
			return
		}
		defer s.limits.leave(who)
		c := &call{what: o.name(req), who: who, began: time.Now()}
		s.mu.Lock()
		s.calls[c] = struct{}{}
		s.mu.Unlock()
		defer func() {
			s.mu.Lock()
			defer s.mu.Unlock()
			delete(s.calls, c)
		}()
		s.answer(w, r, o, c, req)
	})
}

// admit reads the request and decides whether its sender may make it. A caller
// that was admitted must leave.
func (s *Server) admit(r *http.Request, o op) (who Caller, req request, err error) {
	c, ok := r.Context().Value(connKey{}).(*conn)
	if !ok {
		return who, req, errors.New("the connection is not known")
	}
	if who, err = s.Caller(c.UnixConn); err != nil {
		return who, req, fmt.Errorf("find out which user calls: %w", err)
	}
	if err := c.SetReadDeadline(time.Now().Add(headerPatience)); err != nil {
		return who, req, err
	}
	body := http.MaxBytesReader(nil, r.Body, maxRequest)
	dec := json.NewDecoder(body)
	dec.DisallowUnknownFields()
	if err := dec.Decode(&req); err != nil {
		return who, req, advice.Usagef("read the request: %w", err)
	}
	if _, err := io.Copy(io.Discard, body); err != nil { // from its end on, the caller's going away is noticed
		return who, req, advice.Usagef("read the request: %w", err)
	}
	if err := c.SetReadDeadline(time.Time{}); err != nil {
		return who, req, err
	}
	if !who.Root && (o.may(req) != members || !who.Member) {
		return who, req, notAllowed(who)
	}
	if o.path == pathDo && o.may(req) == members {
		if err := s.limits.snapshot(who, req.Groups, s.Newest, time.Now()); err != nil {
			return who, req, err
		}
	}
	return who, req, s.limits.enter(who)
}

func notAllowed(who Caller) error {
	if who.Member {
		return advice.With(agent.ErrNotRoot, "run it as root, for example with sudo: members of the group snapd-agent may list, show, see the status and take snapshots only")
	}
	return advice.With(agent.ErrNotRoot, "run it as root, or let root put you into the group snapd-agent, whose members may list, show, see the status and take snapshots")
}

// answer carries out a call and sends what comes of it.
func (s *Server) answer(w http.ResponseWriter, r *http.Request, o op, c *call, req request) {
	w.Header().Set("Content-Type", "application/x-ndjson")
	out := newStream(&flusher{w: w, control: http.NewResponseController(w)})
	result, err := s.carryOut(r.Context(), o, c, req, out)
	last := line{Error: faultOf(r.Context(), err)}
	if text, merr := json.Marshal(result); merr == nil && result != nil {
		last.Result = text
	}
	if o.path == pathDo || err != nil {
		s.summary(r.Context(), c, result, last.Error)
	}
	if err := out.end(last); err != nil {
		s.Log.Info(fmt.Sprintf("%s: its caller was gone before the answer: %v", c.what, err))
	}
}

func (s *Server) carryOut(ctx context.Context, o op, c *call, req request, out *stream) (result any, err error) {
	defer func() {
		if v := recover(); v != nil {
			err = s.panicked(v, debug.Stack())
		}
	}()
	if o.path == pathReload {
		return nil, s.Reload()
	}
	if o.queue != nil {
		queue := o.queue(s)
		select {
		case queue <- struct{}{}:
			defer func() { <-queue }()
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	calls, err := s.Calls(func(e agent.Event) {
		c.note(e)
		if e.Kind == agent.Warning {
			s.Log.Warn(withDo(cmp.Or(strings.TrimPrefix(e.Group+": "+e.Text, ": "), "warning"), e.Do), "group", e.Group)
		}
		out.report(e)
	})
	if err != nil {
		return nil, err
	}
	return o.do(ctx, s, calls, req)
}

// refuse answers what is not carried out.
func refuse(ctx context.Context, w http.ResponseWriter, status int, err error) {
	w.Header().Set("Content-Type", "application/x-ndjson")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(line{Error: faultOf(ctx, err), End: true}) // a client that is gone cannot be told so
}

// flusher sends every line at once.
type flusher struct {
	w       http.ResponseWriter
	control *http.ResponseController
}

func (f *flusher) Write(p []byte) (int, error) {
	n, err := f.w.Write(p)
	if err == nil {
		err = f.control.Flush()
	}
	return n, err
}

func (f *flusher) hurry(d time.Duration) { _ = f.control.SetWriteDeadline(time.Now().Add(d)) } // a closed connection needs none
