package api

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"snapd/internal/advice"
	"snapd/internal/agent"
	"snapd/internal/fs"
	"snapd/internal/point"
	"snapd/internal/ship"

	"golang.org/x/sys/unix"
)

// calls is a fake agent: what is nil is not to be called.
type calls struct {
	report agent.Report
	do     func(ctx context.Context, report agent.Report, groups []string, steps agent.Steps) (agent.Done, error)
	prune  func(groups []string, dryRun bool) (agent.Pruned, error)
	list   func(ctx context.Context, group string) ([]point.Point, error)
	show   func(wanted string) (point.Point, error)
	status func() (agent.Status, error)
}

func (c calls) Do(ctx context.Context, groups []string, steps agent.Steps) (agent.Done, error) {
	return c.do(ctx, c.report, groups, steps)
}

func (c calls) Prune(_ context.Context, groups []string, dryRun bool) (agent.Pruned, error) {
	return c.prune(groups, dryRun)
}

func (c calls) List(ctx context.Context, group string) ([]point.Point, error) {
	return c.list(ctx, group)
}
func (c calls) Show(_ context.Context, wanted string) (point.Point, error) { return c.show(wanted) }
func (c calls) Status(context.Context) (agent.Status, error)               { return c.status() }

// socket is the agent's, as systemd holds it: it stays while agents come and go.
type socket struct {
	t    *testing.T
	path string
	held *os.File
}

func newSocket(t *testing.T) *socket {
	t.Helper()
	dir, err := os.MkdirTemp("", "api") // a socket's path is short
	if err != nil {
		t.Fatal(err)
	}
	p := &socket{t: t, path: filepath.Join(dir, "s")}
	p.listen()
	t.Cleanup(func() {
		p.held.Close()
		os.RemoveAll(dir)
	})
	return p
}

// listen makes the socket.
func (p *socket) listen() {
	p.t.Helper()
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: p.path})
	if err != nil {
		p.t.Fatal(err)
	}
	if p.held, err = l.File(); err != nil {
		p.t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	l.Close()
}

// listener is what systemd passes to one agent.
func (p *socket) listener() *net.UnixListener {
	l, err := net.FileListener(p.held)
	if err != nil {
		p.t.Fatal(err)
	}
	return l.(*net.UnixListener)
}

// pending waits until a client has connected, as systemd does.
func (p *socket) pending(within time.Duration) bool {
	fds := []unix.PollFd{{Fd: int32(p.held.Fd()), Events: unix.POLLIN}}
	for end := time.Now().Add(within); time.Now().Before(end); {
		n, err := unix.Poll(fds, 20)
		if err != nil && !errors.Is(err, unix.EINTR) {
			p.t.Error(err)
			return false
		}
		if n > 0 {
			return true
		}
	}
	return false
}

func root(*net.UnixConn) (Caller, error) { return Caller{Root: true}, nil }

// serve runs one agent until the test ends.
func (p *socket) serve(c calls, change func(*Options)) {
	p.t.Helper()
	o := Options{
		Calls: func(report agent.Report) (Calls, error) {
			c := c
			c.report = report
			return c, nil
		},
		Caller: root, Idle: time.Hour, Tick: 10 * time.Millisecond,
	}
	if change != nil {
		change(&o)
	}
	ctx, cancel := context.WithCancelCause(context.Background())
	ended := make(chan error, 1)
	l := p.listener()
	go func() { ended <- NewServer(o).Serve(ctx, l) }()
	p.t.Cleanup(func() {
		cancel(ErrStopping)
		if err := <-ended; err != nil {
			p.t.Errorf("serve: %v", err)
		}
	})
}

func (p *socket) client(report agent.Report) *Client {
	p.t.Helper()
	c, err := Connect(p.t.Context(), p.path, report)
	if err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(func() { _ = c.Close() })
	return c
}

func TestEveryCall(t *testing.T) {
	p := newSocket(t)
	secret := point.Point{ID: "0000000000000001", Group: "shop", Containers: []byte(`{"web":{"Env":["PASSWORD=x"]}}`)}
	p.serve(calls{
		do: func(_ context.Context, report agent.Report, groups []string, steps agent.Steps) (agent.Done, error) {
			report(agent.Event{Kind: agent.Warning, Group: "shop", Text: "mind the gap", Do: "step over it", Names: []string{"no-identity"}})
			report(agent.Event{Kind: agent.Progress, Group: "shop", Text: "/srv", Bytes: 5, Total: 7})
			if len(groups) != 1 || groups[0] != "shop" || steps != (agent.Steps{Snapshot: true, Ship: true}) {
				t.Errorf("asked for %v %+v", groups, steps)
			}
			return agent.Done{Points: []point.Point{secret}}, nil
		},
		prune: func(groups []string, dryRun bool) (agent.Pruned, error) {
			if !dryRun || groups[0] != "shop" {
				t.Errorf("prune %v, dry run %t", groups, dryRun)
			}
			return agent.Pruned{Drop: []agent.Verdict{{ID: "x", Reason: "old"}}}, nil
		},
		list:   func(_ context.Context, group string) ([]point.Point, error) { return []point.Point{secret}, nil },
		show:   func(wanted string) (point.Point, error) { return secret, nil },
		status: func() (agent.Status, error) { return agent.Status{Groups: []agent.GroupStatus{{Group: "shop"}}}, nil },
	}, nil)
	var mu sync.Mutex
	var heard []agent.Event
	c := p.client(func(e agent.Event) {
		mu.Lock()
		defer mu.Unlock()
		heard = append(heard, e)
	})
	done, err := c.Do(t.Context(), []string{"shop"}, agent.Steps{Snapshot: true, Ship: true})
	if err != nil || len(done.Points) != 1 || done.Points[0].ID != secret.ID {
		t.Errorf("do: %+v, %v", done, err)
	}
	want := []agent.Event{{Kind: agent.Warning, Group: "shop", Text: "mind the gap", Do: "step over it", Names: []string{"no-identity"}}, {Kind: agent.Progress, Group: "shop", Text: "/srv", Bytes: 5, Total: 7}}
	if !reflect.DeepEqual(heard, want) {
		t.Errorf("heard %+v", heard)
	}
	pruned, err := c.Prune(t.Context(), []string{"shop"}, true)
	if err != nil || len(pruned.Drop) != 1 || pruned.Drop[0].Reason != "old" {
		t.Errorf("prune: %+v, %v", pruned, err)
	}
	points, err := c.List(t.Context(), "shop")
	if err != nil || len(points) != 1 {
		t.Errorf("list: %+v, %v", points, err)
	}
	shown, err := c.Show(t.Context(), "latest")
	if err != nil || shown.ID != secret.ID {
		t.Errorf("show: %+v, %v", shown, err)
	}
	for _, got := range []point.Point{done.Points[0], points[0], shown} {
		if len(got.Containers) > 0 {
			t.Errorf("the environment of a container left the agent: %s", got.Containers)
		}
	}
	st, err := c.Status(t.Context())
	if err != nil || len(st.Groups) != 1 || st.Groups[0].Group != "shop" {
		t.Errorf("status: %+v, %v", st, err)
	}
}

func TestErrorsAreWhatTheyWere(t *testing.T) {
	for name, test := range map[string]struct {
		err  error
		is   error
		hint string
	}{
		"usage":     {advice.Usagef("no such group"), advice.Usage, ""},
		"busy":      {advice.In(advice.Busy, errors.New("in use")), advice.Busy, ""},
		"not there": {fmt.Errorf("%q: %w", "x", agent.ErrNotThere), agent.ErrNotThere, ""},
		"partial":   {advice.In(advice.Partial, errors.New("repository main: down")), advice.Partial, ""},
		"hinted":    {advice.With(errors.New("no room"), "make room"), nil, "make room"},
		"denied":    {fmt.Errorf("repository main: %w", ship.ErrDenied), ship.ErrDenied, ""},
		"exists":    {fmt.Errorf("/srv/x: %w", fs.ErrExists), fs.ErrExists, ""},
		"plain":     {errors.New("something"), nil, ""},
	} {
		t.Run(name, func(t *testing.T) {
			p := newSocket(t)
			p.serve(calls{list: func(context.Context, string) ([]point.Point, error) {
				return []point.Point{{ID: "0000000000000001"}}, test.err
			}}, nil)
			points, err := p.client(nil).List(t.Context(), "")
			if err == nil || err.Error() != test.err.Error() || test.is != nil && !errors.Is(err, test.is) || advice.Of(err) != test.hint {
				t.Errorf("got %v (%q), want %v (%q)", err, advice.Of(err), test.err, test.hint)
			}
			if len(points) != 1 {
				t.Error("what was achieved beside the error is lost")
			}
		})
	}
}

func TestACancelledCallIsWaitedFor(t *testing.T) {
	p := newSocket(t)
	began := make(chan struct{})
	undone := atomic.Bool{}
	p.serve(calls{list: func(ctx context.Context, _ string) ([]point.Point, error) {
		close(began)
		<-ctx.Done()
		time.Sleep(50 * time.Millisecond) // the rest of a window
		undone.Store(true)
		return nil, ctx.Err()
	}}, nil)
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		<-began
		cancel()
	}()
	_, err := p.client(nil).List(ctx, "")
	if !errors.Is(err, context.Canceled) || !undone.Load() {
		t.Errorf("returned %v, undone %t", err, undone.Load())
	}
}

func TestACallerThatGoesAwayCancels(t *testing.T) {
	p := newSocket(t)
	began, ended := make(chan struct{}), make(chan struct{})
	p.serve(calls{list: func(ctx context.Context, _ string) ([]point.Point, error) {
		close(began)
		<-ctx.Done()
		close(ended)
		return nil, ctx.Err()
	}}, nil)
	conn, err := net.Dial("unix", p.path)
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprintf(conn, "POST /v1/list HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}")
	<-began
	conn.Close()
	select {
	case <-ended:
	case <-time.After(10 * time.Second):
		t.Error("the call went on without its caller")
	}
}

// TestACallerThatDoesNotRead: a user pressed Ctrl-Z. The call must not wait.
func TestACallerThatDoesNotRead(t *testing.T) {
	p := newSocket(t)
	ended := make(chan struct{})
	p.serve(calls{
		list: func(context.Context, string) ([]point.Point, error) { return nil, nil },
		do: func(_ context.Context, report agent.Report, _ []string, _ agent.Steps) (agent.Done, error) {
			for i := range 50000 {
				report(agent.Event{Kind: agent.Warning, Text: strings.Repeat("x", 1000) + fmt.Sprint(i)})
				report(agent.Event{Kind: agent.Progress, Bytes: int64(i)})
			}
			close(ended)
			return agent.Done{}, nil
		},
	}, nil)
	conn, err := net.Dial("unix", p.path)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	body := `{"groups":["a"],"steps":{"ship":true}}`
	fmt.Fprintf(conn, "POST /v1/do HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
	select {
	case <-ended:
	case <-time.After(20 * time.Second):
		t.Fatal("the call waited for a caller that does not read")
	}
	if _, err := p.client(nil).List(t.Context(), ""); err != nil { // and others are served
		t.Error(err)
	}
}

func TestWhoMayDoWhat(t *testing.T) {
	type try struct {
		name string
		do   func(c *Client) error
	}
	ctx := context.Background()
	run := func(s agent.Steps) func(c *Client) error {
		return func(c *Client) error { _, err := c.Do(ctx, []string{"shop"}, s); return err }
	}
	tries := []try{
		{"snapshot", run(agent.Steps{Snapshot: true})},
		{"snapshot --ship", run(agent.Steps{Snapshot: true, Ship: true})},
		{"run", run(agent.Steps{Snapshot: true, Ship: true, Prune: true})},
		{"ship", run(agent.Steps{Ship: true})},
		{"prune", func(c *Client) error { _, err := c.Prune(ctx, nil, false); return err }},
		{"prune --dry-run", func(c *Client) error { _, err := c.Prune(ctx, nil, true); return err }},
		{"list", func(c *Client) error { _, err := c.List(ctx, ""); return err }},
		{"show", func(c *Client) error { _, err := c.Show(ctx, "latest"); return err }},
		{"status", func(c *Client) error { _, err := c.Status(ctx); return err }},
		{"reload", func(c *Client) error { return c.Reload(ctx) }},
	}
	may := map[string]string{
		"root":    "snapshot, snapshot --ship, run, ship, prune, prune --dry-run, list, show, status, reload",
		"member":  "snapshot, list, show, status",
		"other":   "", // the socket's mode keeps them away already
		"unknown": "",
	}
	for name, who := range map[string]Caller{"root": {Root: true}, "member": {UID: 1000, Member: true}, "other": {UID: 1001}, "unknown": {UID: 1002}} {
		t.Run(name, func(t *testing.T) {
			p := newSocket(t)
			var reached atomic.Int32
			p.serve(calls{
				do: func(context.Context, agent.Report, []string, agent.Steps) (agent.Done, error) {
					reached.Add(1)
					return agent.Done{}, nil
				},
				prune:  func([]string, bool) (agent.Pruned, error) { reached.Add(1); return agent.Pruned{}, nil },
				list:   func(context.Context, string) ([]point.Point, error) { reached.Add(1); return nil, nil },
				show:   func(string) (point.Point, error) { reached.Add(1); return point.Point{}, nil },
				status: func() (agent.Status, error) { reached.Add(1); return agent.Status{}, nil },
			}, func(o *Options) {
				o.Caller = func(*net.UnixConn) (Caller, error) {
					if name == "unknown" {
						return Caller{}, errors.New("the kernel does not say")
					}
					return who, nil
				}
				o.Reload = func() error { reached.Add(1); return nil }
			})
			var got []string
			for _, try := range tries {
				before := reached.Load()
				err := try.do(p.client(nil))
				if err == nil {
					got = append(got, try.name)
				} else if name != "unknown" && (!errors.Is(err, agent.ErrNotRoot) || advice.Of(err) == "") {
					t.Errorf("%s: refused with %v (%s)", try.name, err, advice.Of(err))
				}
				if err != nil && reached.Load() != before {
					t.Errorf("%s was refused, and carried out", try.name)
				}
			}
			if s := strings.Join(got, ", "); s != may[name] {
				t.Errorf("may %s\nwant %s", s, may[name])
			}
		})
	}
}

func TestMembersAreLimited(t *testing.T) {
	p := newSocket(t)
	newest := map[string]time.Time{"fresh": time.Now().Add(-10 * time.Second), "old": time.Now().Add(-2 * time.Minute), "future": time.Now().Add(time.Hour)}
	hold := make(chan struct{})
	p.serve(calls{
		do: func(context.Context, agent.Report, []string, agent.Steps) (agent.Done, error) {
			return agent.Done{}, errors.New("the window overran") // an attempt counts, too
		},
		list: func(ctx context.Context, _ string) ([]point.Point, error) {
			select {
			case <-hold:
			case <-ctx.Done():
			}
			return nil, nil
		},
	}, func(o *Options) {
		o.Caller = func(*net.UnixConn) (Caller, error) { return Caller{UID: 1000, Member: true}, nil }
		o.Newest = func() (map[string]time.Time, error) { return newest, nil }
	})
	snapshot := func(groups ...string) error {
		_, err := p.client(nil).Do(t.Context(), groups, agent.Steps{Snapshot: true})
		return err
	}
	if err := snapshot("fresh"); !errors.Is(err, advice.Busy) {
		t.Errorf("10 s after the last point: %v", err)
	}
	if err := snapshot("old", "fresh"); !errors.Is(err, advice.Busy) || strings.Contains(err.Error(), "old") {
		t.Errorf("one of two: %v", err)
	}
	if err := snapshot("future"); errors.Is(err, advice.Busy) {
		t.Errorf("after the clock was set back: %v", err)
	}
	if err := snapshot("old"); errors.Is(err, advice.Busy) {
		t.Errorf("two minutes after the last point: %v", err)
	}
	if err := snapshot("old"); !errors.Is(err, advice.Busy) {
		t.Errorf("at once again: %v", err)
	}
	// Calls under way.
	var busy, fine atomic.Int32
	var all sync.WaitGroup
	for range memberCalls + 5 {
		all.Go(func() {
			c, err := Connect(t.Context(), p.path, nil)
			if err == nil {
				_, err = c.List(t.Context(), "")
			}
			if errors.Is(err, advice.Busy) {
				if busy.Add(1) == 5 {
					close(hold)
				}
			} else if err == nil {
				fine.Add(1)
			} else {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if busy.Load() != 5 || fine.Load() != memberCalls {
		t.Errorf("%d were refused, %d served", busy.Load(), fine.Load())
	}
}

// TestSilentMembersKeepNoCallOut: a user who connects as often as can be, and says
// nothing, takes root no connection.
func TestSilentMembersKeepNoCallOut(t *testing.T) {
	p := newSocket(t)
	var silent atomic.Int32
	p.serve(calls{status: func() (agent.Status, error) { return agent.Status{}, nil }}, func(o *Options) {
		o.Caller = func(*net.UnixConn) (Caller, error) {
			if silent.Add(-1) >= 0 {
				return Caller{UID: 1000, Member: true}, nil
			}
			return Caller{Root: true}, nil
		}
	})
	const many = most + 20
	silent.Store(many)
	for range many {
		c, err := net.Dial("unix", p.path)
		for end := time.Now().Add(10 * time.Second); errors.Is(err, unix.EAGAIN) && time.Now().Before(end); time.Sleep(time.Millisecond) {
			c, err = net.Dial("unix", p.path) // its queue is full
		}
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
	}
	begin := time.Now()
	_, err := p.client(nil).Status(t.Context())
	if took := time.Since(begin); err != nil || took > headerPatience/2 {
		t.Errorf("root beside %d silent connections: %v, after %v", many, err, took)
	}
}

// TestNoCallIsLostAroundTheIdleMoment plays systemd with agents that are idle
// after two milliseconds, and 50 callers that pause about as long.
func TestNoCallIsLostAroundTheIdleMoment(t *testing.T) {
	p := newSocket(t)
	const callers, each = 50, 40
	var served, agents atomic.Int32
	stop := make(chan struct{})
	systemd := make(chan error, 1)
	go func() {
		var err error
		defer func() { systemd <- err }()
		for {
			select {
			case <-stop:
				return
			default:
			}
			if !p.pending(20 * time.Millisecond) {
				continue
			}
			agents.Add(1)
			c := calls{list: func(context.Context, string) ([]point.Point, error) { served.Add(1); return nil, nil }}
			s := NewServer(Options{
				Calls: func(agent.Report) (Calls, error) { return c, nil }, Caller: root,
				Idle: 2 * time.Millisecond, Tick: time.Millisecond,
			})
			if err = s.Serve(context.Background(), p.listener()); err != nil {
				return
			}
		}
	}()
	var all sync.WaitGroup
	for i := range callers {
		all.Go(func() {
			for n := range each {
				c, err := Connect(t.Context(), p.path, nil)
				if err == nil {
					_, err = c.List(t.Context(), "")
				}
				if err != nil {
					t.Errorf("caller %d, call %d: %v", i, n, err)
					return
				}
				if n%4 == 3 {
					time.Sleep(time.Duration(i%5) * time.Millisecond) // that is what is tested
				}
			}
		})
	}
	all.Wait()
	// And one by one, with pauses around the idle time.
	for n := range 60 {
		time.Sleep(time.Millisecond + time.Duration(n)*50*time.Microsecond)
		if _, err := p.client(nil).List(t.Context(), ""); err != nil {
			t.Fatalf("call %d: %v", n, err)
		}
	}
	close(stop)
	if err := <-systemd; err != nil {
		t.Fatal(err)
	}
	if got, want := served.Load(), int32(callers*each+60); got != want {
		t.Errorf("%d calls were served, want %d", got, want)
	}
	t.Logf("%d calls by %d agents", served.Load(), agents.Load())
	if agents.Load() < 20 {
		t.Error("too few agents ended for this to show anything")
	}
}

// TestARestartGoesOn: the first agent is told to restart in the middle of a
// ship, the second one goes on with what is left.
func TestARestartGoesOn(t *testing.T) {
	p := newSocket(t)
	taken := point.Point{ID: "0000000000000001", Group: "shop"}
	began := make(chan struct{})
	first := calls{do: func(ctx context.Context, _ agent.Report, _ []string, _ agent.Steps) (agent.Done, error) {
		close(began)
		<-ctx.Done()
		return agent.Done{Points: []point.Point{taken}, Left: agent.Steps{Ship: true, Prune: true}}, errors.Join(advice.Partial, ctx.Err())
	}}
	var asked []agent.Steps
	second := calls{do: func(_ context.Context, _ agent.Report, _ []string, s agent.Steps) (agent.Done, error) {
		asked = append(asked, s)
		shipped := taken
		shipped.Numbers = map[string]int64{"main": 1}
		return agent.Done{Points: []point.Point{shipped}}, nil
	}}
	for name, test := range map[string]struct {
		cause error
		goes  bool
	}{"restart": {ErrRestarting, true}, "stop": {ErrStopping, false}} {
		t.Run(name, func(t *testing.T) {
			asked, began = nil, make(chan struct{})
			ctx, cancel := context.WithCancelCause(context.Background())
			serve := func(ctx context.Context, c calls) <-chan error {
				ended := make(chan error, 1)
				l := p.listener()
				go func() {
					ended <- NewServer(Options{Calls: func(agent.Report) (Calls, error) { return c, nil }, Caller: root, Idle: 200 * time.Millisecond, Tick: time.Millisecond}).Serve(ctx, l)
				}()
				return ended
			}
			ended := serve(ctx, first)
			var next <-chan error
			handed := make(chan struct{})
			go func() {
				defer close(handed)
				<-began
				cancel(test.cause)
				if err := <-ended; err != nil {
					t.Error(err)
				}
				next = serve(context.Background(), second)
			}()
			done, err := p.client(nil).Do(t.Context(), []string{"shop"}, agent.Steps{Snapshot: true, Ship: true, Prune: true})
			<-handed
			if e := <-next; e != nil {
				t.Error(e)
			}
			if test.goes {
				if err != nil || len(done.Points) != 1 || done.Points[0].Numbers["main"] != 1 || len(asked) != 1 || asked[0] != (agent.Steps{Ship: true, Prune: true}) {
					t.Errorf("%+v, %v; asked for %+v", done, err, asked)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), ErrStopping.Error()) || len(asked) != 0 || len(done.Points) != 1 || !errors.Is(err, advice.Partial) {
				t.Errorf("%+v, %v; asked for %+v", done, err, asked)
			}
		})
	}
}

func TestAPanicIsAnAnswerAndEndsTheAgent(t *testing.T) {
	p := newSocket(t)
	ended := make(chan error, 1)
	l := p.listener()
	go func() {
		c := calls{status: func() (agent.Status, error) { panic("nil map") }}
		ended <- NewServer(Options{Calls: func(agent.Report) (Calls, error) { return c, nil }, Caller: root, Idle: time.Hour, Tick: time.Millisecond}).Serve(context.Background(), l)
	}()
	if _, err := p.client(nil).Status(t.Context()); err == nil || !strings.Contains(err.Error(), "nil map") {
		t.Errorf("the caller heard %v", err)
	}
	select {
	case err := <-ended:
		if err == nil {
			t.Error("the agent ended as if nothing had happened")
		}
	case <-time.After(10 * time.Second):
		t.Error("the agent went on with what the panic held")
	}
}

// An agent that has something to look after stays although no call comes.
func TestNeededStays(t *testing.T) {
	p := newSocket(t)
	var needed atomic.Bool
	needed.Store(true)
	asked := make(chan struct{}, 1)
	ended := make(chan error, 1)
	l := p.listener()
	go func() {
		ended <- NewServer(Options{
			Calls: func(agent.Report) (Calls, error) { return calls{}, nil }, Caller: root, Idle: time.Millisecond, Tick: time.Millisecond,
			Needed: func() bool {
				select {
				case asked <- struct{}{}:
				default:
				}
				return needed.Load()
			},
		}).Serve(context.Background(), l)
	}()
	for range 20 { // it asks on and on
		select {
		case <-asked:
		case err := <-ended:
			t.Fatalf("it ended: %v", err)
		case <-time.After(10 * time.Second):
			t.Fatal("it does not ask")
		}
	}
	needed.Store(false)
	select {
	case err := <-ended:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(10 * time.Second):
		t.Error("it stays")
	}
}

func TestNoAgentThere(t *testing.T) {
	p := newSocket(t)
	if _, err := Connect(t.Context(), p.path+"none", nil); !errors.Is(err, ErrNoAgent) {
		t.Errorf("without a socket: %v", err)
	}
	ctx, cancel := context.WithCancelCause(context.Background())
	began := make(chan struct{})
	// An agent that dies: its connection breaks without an answer.
	l := p.listener()
	go func() {
		c, err := l.Accept()
		if err != nil {
			t.Error(err)
		}
		close(began)
		<-ctx.Done()
		c.Close()
		l.Close()
	}()
	cancel(nil)
	_, err := p.client(nil).List(t.Context(), "")
	<-began
	if !errors.Is(err, ErrLost) || advice.Of(err) == "" {
		t.Errorf("an agent that died: %v", err)
	}
	p.held.Close()
	if _, err := Connect(t.Context(), p.path, nil); !errors.Is(err, ErrNoAgent) {
		t.Errorf("with a dead socket: %v", err)
	}
}

func TestWrongRequests(t *testing.T) {
	p := newSocket(t)
	p.serve(calls{}, nil)
	for body, want := range map[string]string{
		`{"gropus":["a"]}`: "unknown field",
		`{`:                "unexpected EOF",
		`{"groups":["` + strings.Repeat("x", maxRequest) + `"]}`: "too large",
		`{"steps":{"snapshot":true}}`:                            "name at least one",
	} {
		conn, err := net.Dial("unix", p.path)
		if err != nil {
			t.Fatal(err)
		}
		go fmt.Fprintf(conn, "POST /v1/do HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
		answer := make([]byte, 4096)
		_ = conn.SetReadDeadline(time.Now().Add(5 * time.Second))
		n, _ := conn.Read(answer)
		if !strings.Contains(string(answer[:n]), want) {
			t.Errorf("%.60s: %s", body, answer[:n])
		}
		conn.Close()
	}
	var other Client
	other.path, other.report = p.path, func(agent.Event) {}
	if err := other.call(t.Context(), "/v2/do", request{}, nil); err == nil || !strings.Contains(err.Error(), "does not know") {
		t.Errorf("a call of another version: %v", err)
	}
}

// TestSlowAgentLooks: one whose loop takes longer than it may be idle still
// answers a client that waited before it began, and then ends.
func TestSlowAgentLooks(t *testing.T) {
	p := newSocket(t)
	answered := make(chan error, 1)
	go func() {
		c, err := Connect(t.Context(), p.path, nil)
		if err == nil {
			_, err = c.List(t.Context(), "")
		}
		answered <- err
	}()
	for !p.pending(20 * time.Millisecond) {
	}
	served := false
	c := calls{list: func(context.Context, string) ([]point.Point, error) { served = true; return nil, nil }}
	s := NewServer(Options{
		Calls: func(agent.Report) (Calls, error) { return c, nil }, Caller: root,
		Idle: time.Millisecond, Tick: time.Second, Alive: func([]string) { time.Sleep(10 * time.Millisecond) },
	})
	if err := s.Serve(t.Context(), p.listener()); err != nil {
		t.Fatal(err)
	}
	if !served {
		t.Fatal("it ended before it had looked")
	}
	if err := <-answered; err != nil {
		t.Error(err)
	}
}

// TestSocketTakenAway: after a restart the call waits in the queue of a socket
// that an upgrade then closes and makes anew. It is called again, once.
func TestSocketTakenAway(t *testing.T) {
	p := newSocket(t)
	done := make(chan error, 1)
	var steps []agent.Steps
	go func() {
		_, err := p.client(nil).Do(t.Context(), []string{"shop"}, agent.Steps{Snapshot: true, Ship: true})
		done <- err
	}()
	agentOf := func(left agent.Steps, err error) {
		t.Helper()
		for !p.pending(20 * time.Millisecond) {
		}
		ctx, cancel := context.WithCancelCause(t.Context())
		defer cancel(nil)
		c := calls{do: func(_ context.Context, _ agent.Report, _ []string, s agent.Steps) (agent.Done, error) {
			steps = append(steps, s)
			if err != nil {
				cancel(err) // no other call is taken from now on
			}
			return agent.Done{Left: left}, err
		}}
		s := NewServer(Options{Calls: func(agent.Report) (Calls, error) { return c, nil }, Caller: root, Idle: 50 * time.Millisecond, Tick: time.Second})
		if err := s.Serve(ctx, p.listener()); err != nil {
			t.Fatal(err)
		}
	}
	agentOf(agent.Steps{Ship: true}, ErrRestarting)
	for !p.pending(20 * time.Millisecond) {
	}
	p.held.Close()
	if err := os.Remove(p.path); err != nil {
		t.Fatal(err)
	}
	p.listen()
	agentOf(agent.Steps{}, nil)
	if err := <-done; err != nil || len(steps) != 2 || steps[1] != (agent.Steps{Ship: true}) {
		t.Errorf("%v, %+v", err, steps)
	}
}
