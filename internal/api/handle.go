package api

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"runtime/debug"
	"strings"
	"sync"
	"time"

	"snapd/internal/advice"
	"snapd/internal/agent"
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
	// queue limits how many calls of a kind run at once; nil sets no limit.
	queue func(*Server) *slots
	reads bool // it changes nothing, so that a member's has a deadline
	do    func(ctx context.Context, s *Server, c Calls, who Caller, r request) (any, error)
}

func ops() []op {
	always := func(r right) func(request) right { return func(request) right { return r } }
	named := func(name string) func(request) string { return func(request) string { return name } }
	looks := func(s *Server) *slots { return s.looks }
	lists := func(s *Server) *slots { return s.lists }
	takes := func(s *Server) *slots { return s.takes }
	return []op{
		{
			path: pathDo,
			may: func(r request) right {
				if r.Steps == (agent.Steps{Snapshot: true}) {
					return members
				}
				return rootOnly
			},
			queue: takes,
			name:  func(r request) string { return strings.TrimSpace(stepsOf(r.Steps) + " " + r.Groups.String()) },
			do: func(ctx context.Context, s *Server, c Calls, who Caller, r request) (any, error) {
				if r.Steps.Snapshot && len(r.Groups) == 0 {
					return nil, advice.With(advice.Usagef("no group is named"), "name at least one; snapd status lists them")
				}
				done, err := c.Do(ctx, r.Groups, r.Steps)
				done.Points = publicPoints(done.Points, who)
				if !errors.Is(context.Cause(ctx), ErrRestarting) {
					done.Left = agent.Steps{}
				}
				s.summarize(done)
				return done, err
			},
		},
		{
			path: pathPrune, may: always(rootOnly),
			name: func(r request) string { return strings.TrimSpace("prune " + r.Groups.String()) },
			do: func(ctx context.Context, _ *Server, c Calls, _ Caller, r request) (any, error) {
				return c.Prune(ctx, r.Groups, r.DryRun)
			},
		},
		{
			path: pathList, may: always(members), queue: lists, reads: true, name: named("list"),
			do: func(ctx context.Context, _ *Server, c Calls, who Caller, r request) (any, error) {
				points, err := c.List(ctx, r.Group)
				return publicPoints(points, who), err
			},
		},
		{
			path: pathShow, may: always(members), queue: lists, reads: true, name: named("show"),
			do: func(ctx context.Context, _ *Server, c Calls, who Caller, r request) (any, error) {
				p, err := c.Show(ctx, r.Point)
				return public(p, who), err
			},
		},
		{
			path: pathStatus, may: always(members), queue: looks, reads: true, name: named("status"),
			do: func(ctx context.Context, _ *Server, c Calls, who Caller, _ request) (any, error) {
				st, err := c.Status(ctx)
				return publicStatus(st, who), err
			},
		},
	}
}

// routes finds the call of a request. A multiplexer has answers of its own, which
// wait for the rest of what a caller sends.
func (s *Server) routes() http.Handler {
	calls := map[string]http.Handler{}
	for path, name := range map[string]string{pathReload: "reload", pathRetire: "retire"} {
		calls[path] = s.handler(op{
			path: path, may: func(request) right { return rootOnly }, name: func(request) string { return name },
		})
	}
	for _, o := range ops() {
		calls[o.path] = s.handler(o)
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if call, known := calls[r.URL.Path]; known && r.Method == http.MethodPost {
			call.ServeHTTP(w, r)
			return
		}
		refuse(w, r, http.StatusNotFound, advice.With(
			advice.Usagef("this agent does not know the call %.40q: program and agent are of different versions", r.URL.Path),
			"run: systemctl restart snapd-agent.service"))
	})
}

// call is one that is under way.
type call struct {
	what  string
	who   Caller
	began time.Time
	steps agent.Steps // none when it is no Do
	mu    sync.Mutex
	last  string // event
	calls Calls  // what carries it out, nil before that
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
			s.refusals.note(userOf(who), fmt.Sprintf("refused %s: %v", o.name(req), err))
			refuse(w, r, http.StatusForbidden, err)
			return
		}
		defer s.limits.leave(who)
		c := &call{what: o.name(req), who: who, began: time.Now(), steps: stepsUnder(o, req)}
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

// answer carries out a call and sends what comes of it. Its slot is had until that
// is sent.
func (s *Server) answer(w http.ResponseWriter, r *http.Request, o op, c *call, req request) {
	w.Header().Set("Content-Type", "application/x-ndjson")
	ctx, patience := r.Context(), endPatience
	if !c.who.Root {
		patience = memberEndPatience
		if o.reads {
			var done context.CancelFunc
			ctx, done = context.WithTimeoutCause(ctx, s.patience, errTooSlow)
			defer done()
		}
	}
	out := newStream(&flusher{w: w, control: http.NewResponseController(w)})
	leave, err := s.slot(ctx, o, c.who)
	defer leave()
	var last answer
	if err == nil {
		last.Result, err = s.carryOut(ctx, o, c, req, out)
	}
	if err != nil && errors.Is(context.Cause(ctx), errTooSlow) {
		err = advice.With(advice.In(advice.Busy, fmt.Errorf("%w (%v): %w", errTooSlow, s.patience, err)), "ask as root, whose calls may take longer")
	}
	last.Error = faultOf(ctx, err)
	s.tell(ctx, o, c, last)
	last.Error = publicFault(last.Error, c.who)
	if err := out.end(last, patience); err != nil {
		s.note(c, fmt.Sprintf("%s: its caller was gone before the answer: %v", c.what, err))
	}
}

// tell has the journal say what came of a call, if that is worth a line.
func (s *Server) tell(ctx context.Context, o op, c *call, last answer) {
	switch {
	case last.Error != nil && !c.who.Root && (o.reads || c.begun() == nil):
		s.refusals.note(userOf(c.who), c.what+": "+last.Error.Why)
	case o.path == pathDo || last.Error != nil:
		s.summary(ctx, c, last.Result, last.Error)
	}
}

// note is for what a member can have said as often as it likes.
func (s *Server) note(c *call, text string) {
	if c.who.Root {
		s.Log.Info(text)
		return
	}
	s.refusals.note(userOf(c.who), text)
}

// errTooSlow is the cause of the end of a member's call that reads.
var errTooSlow = errors.New("a member's call that reads took longer than it may")

// slot waits until a call of this kind may run. leave may be called in any case.
func (s *Server) slot(ctx context.Context, o op, who Caller) (leave func(), err error) {
	if o.queue == nil {
		return func() {}, nil
	}
	if leave, err = o.queue(s).enter(ctx, who); err != nil {
		return func() {}, err
	}
	return leave, nil
}

func (s *Server) carryOut(ctx context.Context, o op, c *call, req request, out *stream) (result any, err error) {
	defer func() {
		if v := recover(); v != nil {
			err = s.panicked(v, debug.Stack())
		}
	}()
	switch o.path {
	case pathReload:
		return nil, s.Reload()
	case pathRetire:
		s.retire()
		return nil, nil
	}
	if err := s.paced(ctx, o, c.who, req); err != nil {
		return nil, err
	}
	calls, err := s.Calls(func(e agent.Event) {
		c.note(e)
		if e.Kind == agent.Warning {
			s.Log.Warn(withDo(cmp.Or(strings.TrimPrefix(e.Group+": "+e.Text, ": "), "warning"), e.Do), "group", e.Group)
		}
		out.report(publicEvent(e, c.who))
	})
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	c.calls = calls
	c.mu.Unlock()
	return o.do(ctx, s, calls, c.who, req)
}

// refuse answers what is not carried out. What else its sender has to say is not
// waited for: without the first two lines net/http reads on before it answers.
func refuse(w http.ResponseWriter, r *http.Request, status int, err error) {
	if c, known := r.Context().Value(connKey{}).(*conn); known {
		_ = c.SetReadDeadline(time.Now()) // a closed connection has ended already
	}
	w.Header().Set("Connection", "close")
	w.Header().Set("Content-Type", "application/x-ndjson")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(line{Error: faultOf(context.WithoutCancel(r.Context()), err), End: true}) // a client that is gone cannot be told so
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
