package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"snapd/internal/advice"
	"snapd/internal/agent"
	"snapd/internal/point"

	"golang.org/x/sys/unix"
)

// as connects as a user that callerByName knows: "member-1000", "other-3000".
func (p *socket) as(user string) net.Conn {
	p.t.Helper()
	d := net.Dialer{LocalAddr: &net.UnixAddr{Net: "unix", Name: fmt.Sprintf("@%s-%p-%d", user, p, time.Now().UnixNano())}}
	c, err := d.DialContext(p.t.Context(), "unix", p.path)
	if err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(func() { c.Close() })
	return c
}

// clientAs is a client whose first call is that user's.
func (p *socket) clientAs(user string) *Client {
	return &Client{path: p.path, report: func(agent.Event) {}, first: p.as(user)}
}

// soon fails a test whose step waits for what it must not wait for.
func soon(t *testing.T, what string, step func() error) {
	t.Helper()
	done := make(chan error, 1)
	go func() { done <- step() }()
	select {
	case err := <-done:
		if err != nil {
			t.Errorf("%s: %v", what, err)
		}
	case <-time.After(5 * time.Second):
		t.Fatalf("%s: no answer", what)
	}
}

// TestOneNameManyTimes: what a caller says two hundred thousand times is one group,
// and a member does not get that far.
func TestOneNameManyTimes(t *testing.T) {
	p := newSocket(t)
	asked := make(chan []string, 1)
	p.serve(calls{do: func(_ context.Context, _ agent.Report, groups []string, _ agent.Steps) (agent.Done, error) {
		asked <- groups
		return agent.Done{}, nil
	}}, func(o *Options) { o.Caller = callerByName })
	many := slices.Repeat([]string{"a"}, 200000)
	soon(t, "root", func() error {
		_, err := p.client(nil).Do(t.Context(), many, agent.Steps{Snapshot: true})
		return err
	})
	if got := <-asked; !slices.Equal(got, []string{"a"}) {
		t.Errorf("%d groups were asked for", len(got))
	}
	soon(t, "a member", func() error {
		_, err := p.clientAs("member-1000").Do(t.Context(), many, agent.Steps{Snapshot: true})
		if !errors.Is(err, advice.Usage) || !strings.Contains(err.Error(), "too large") {
			return fmt.Errorf("not refused: %w", err)
		}
		return nil
	})
	soon(t, "a member who says it a little less often", func() error {
		_, err := p.clientAs("member-1000").Do(t.Context(), many[:3000], agent.Steps{Snapshot: true})
		return err
	})
	if got := <-asked; !slices.Equal(got, []string{"a"}) {
		t.Errorf("%d groups were asked for", len(got))
	}
}

func TestNamesOfRequests(t *testing.T) {
	for text, want := range map[string]string{
		`["a","b","a"]`:         "[a b]",
		`[]`:                    "[]",
		`null`:                  "[]",
		`["A"]`:                 `"A" cannot be a group's name`,
		`[1]`:                   "a group's name is a text",
		`{"a":1}`:               "groups is no list",
		`["../x"]`:              `"../x" cannot be a group's name`,
		"[\"\\u001b[2J\"]":      `cannot be a group's name`,
		`[["a"]]`:               "a group's name is a text",
		`["` + long(300) + `"]`: "a group's name of 300 bytes",
	} {
		var n names
		err := json.Unmarshal([]byte(text), &n)
		if got := fmt.Sprint([]string(n)); err == nil && got != want || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%.40s: %s, %v", text, got, err)
		}
	}
	if got := (names{"a", "b", "c", "d", "e", "f", "g"}).String(); got != "a b c d e and 2 more" {
		t.Errorf("they are called %q", got)
	}
	if err := (request{Point: long(300)}).check(); err == nil {
		t.Error("a point's name of 300 bytes was let through")
	}
}

func long(n int) string { return strings.Repeat("x", n) }

// TestADeadRepositoryKeepsOneUserOut: a member has eight calls on it under way. Root's
// calls and those of another member are answered, and the member's own end.
func TestADeadRepositoryKeepsOneUserOut(t *testing.T) {
	p := newSocket(t)
	o := Options{
		Calls: func(agent.Report) (Calls, error) { return burdened(), nil }, Caller: callerByName, Idle: time.Hour, Tick: 10 * time.Millisecond,
	}
	s := NewServer(o)
	s.patience = 1500 * time.Millisecond
	ctx, cancel := context.WithCancelCause(t.Context())
	ended := make(chan error, 1)
	l := p.listener()
	go func() { ended <- s.Serve(ctx, l) }()
	defer func() {
		cancel(ErrStopping)
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}()
	began := time.Now()
	var all sync.WaitGroup
	for range memberCalls {
		all.Go(func() {
			_, err := p.clientAs("member-1000").List(t.Context(), "dead")
			if err == nil || !strings.Contains(err.Error(), "longer than it may") || advice.Of(err) == "" {
				t.Errorf("its call ended with %v", err)
			}
		})
	}
	for len(s.under()) < memberCalls {
		time.Sleep(time.Millisecond)
	}
	for range 3 {
		soon(t, "root's list", func() error { _, err := p.client(nil).List(t.Context(), ""); return err })
		soon(t, "root's show", func() error { _, err := p.client(nil).Show(t.Context(), "latest"); return err })
		soon(t, "another member's list", func() error { _, err := p.clientAs("member-1001").List(t.Context(), ""); return err })
		soon(t, "its own status", func() error {
			if _, err := p.clientAs("member-1000").Status(t.Context()); !errors.Is(err, advice.Busy) { // it has eight calls
				return fmt.Errorf("a ninth call: %w", err)
			}
			return nil
		})
	}
	if took := time.Since(began); took >= s.patience {
		t.Fatalf("the others waited until it was over: %v", took)
	}
	all.Wait()
	if len(s.lists.users) != 0 || len(s.lists.members) != 0 {
		t.Error("a slot is not given back")
	}
	soon(t, "its next list", func() error { _, err := p.clientAs("member-1000").List(t.Context(), ""); return err })
}

// TestUnknownGroupsCountForNothing: names that a member made up are refused before
// they are remembered or wait for their turn.
func TestUnknownGroupsCountForNothing(t *testing.T) {
	p := newSocket(t)
	s := NewServer(Options{
		Calls: func(agent.Report) (Calls, error) {
			return calls{do: func(context.Context, agent.Report, []string, agent.Steps) (agent.Done, error) {
				return agent.Done{}, nil
			}}, nil
		},
		Known: func(_ context.Context, groups []string) error {
			if slices.Contains(groups, "made-up") {
				return advice.Usagef("no such group")
			}
			return nil
		},
		Newest: func() (map[string]time.Time, error) { return map[string]time.Time{"fresh": time.Now()}, nil },
		Caller: callerByName, Idle: time.Hour, Tick: 10 * time.Millisecond,
	})
	ctx, cancel := context.WithCancelCause(t.Context())
	ended := make(chan error, 1)
	l := p.listener()
	go func() { ended <- s.Serve(ctx, l) }()
	do := func(groups ...string) error {
		_, err := p.clientAs("member-1000").Do(t.Context(), groups, agent.Steps{Snapshot: true})
		return err
	}
	if err := do("shop", "made-up"); !errors.Is(err, advice.Usage) {
		t.Errorf("a group that was made up: %v", err)
	}
	if len(s.limits.taken) != 0 {
		t.Errorf("remembered: %v", s.limits.taken)
	}
	if err := do("fresh"); !errors.Is(err, advice.Busy) {
		t.Errorf("a fresh one: %v", err)
	}
	if err := do("shop"); err != nil {
		t.Error(err)
	}
	cancel(ErrStopping)
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// TestNoAnswerWaitsForABody: a caller that is refused hears so at once, and keeps no
// connection by what it says it will send.
func TestNoAnswerWaitsForABody(t *testing.T) {
	p := newSocket(t)
	p.serve(burdened(), func(o *Options) { o.Caller = callerByName })
	for name, test := range map[string]struct{ user, path, status string }{
		"unknown path":    {"member-1000", "/v9/x", "404"},
		"a stranger":      {"other-3000", pathStatus, "403"},
		"a path of /etc":  {"member-1000", "/../etc/passwd", "404"},
		"too large a one": {"member-1000", pathStatus, "403"},
	} {
		t.Run(name, func(t *testing.T) {
			c := p.as(test.user)
			fmt.Fprintf(c, "POST %s HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n{", test.path)
			_ = c.SetDeadline(time.Now().Add(5 * time.Second))
			text, err := io.ReadAll(c)
			if err != nil && !errors.Is(err, unix.ECONNRESET) || !strings.Contains(strings.SplitN(string(text), "\r\n", 2)[0], test.status) {
				t.Errorf("%.200s, %v", text, err)
			}
		})
	}
}

// TestTheLoopWaitsForNoSignOfLife: what shows that the loop lives may hang itself, and
// calls are answered all the same.
func TestTheLoopWaitsForNoSignOfLife(t *testing.T) {
	p := newSocket(t)
	hang := make(chan struct{})
	p.serve(burdened(), func(o *Options) { o.Alive = func([]string) { <-hang } })
	for range 3 {
		soon(t, "status", func() error { _, err := p.client(nil).Status(t.Context()); return err })
	}
	close(hang)
}

// TestTooManyConnections: one that is turned away hears why, without having been read.
func TestTooManyConnections(t *testing.T) {
	p := newSocket(t)
	p.serve(burdened(), func(o *Options) { o.Caller = callerByName })
	for range memberConns {
		p.as("member-1000")
	}
	_, err := p.clientAs("member-1000").Status(t.Context())
	if !errors.Is(err, advice.Busy) || !strings.Contains(err.Error(), "32 connections") || advice.Of(err) == "" {
		t.Errorf("a connection too many: %v", err)
	}
	if _, err := p.clientAs("member-1001").Status(t.Context()); err != nil {
		t.Errorf("another member: %v", err)
	}
}

func TestRates(t *testing.T) {
	l, now := newLimits(), time.Date(2026, 11, 26, 12, 0, 0, 0, time.UTC)
	member := Caller{UID: 1000, Member: true}
	try := func(who Caller, n int) (served int) {
		for range n {
			if l.connect(who, now) == nil {
				served++
				l.disconnect(who)
			}
		}
		return served
	}
	if got := try(member, 1000); got != rateBurst {
		t.Errorf("%d of a thousand at once", got)
	}
	now = now.Add(time.Second)
	if got := try(member, 1000); got != ratePerSecond {
		t.Errorf("%d a second later", got)
	}
	now = now.Add(-time.Hour) // a clock that was set back takes nothing and gives nothing
	if got := try(member, 10); got != 0 {
		t.Errorf("%d after the clock was set back", got)
	}
	now = now.Add(time.Second)
	if got := try(member, 1000); got != ratePerSecond {
		t.Errorf("%d a second after that", got)
	}
	if got := try(Caller{Root: true}, 1000); got != 1000 {
		t.Errorf("%d of root's thousand", got)
	}
	for uid := range 10 * mostRates { // strangers are one user
		try(Caller{UID: uid}, 1)
	}
	if got := try(Caller{UID: 5}, 10); got != 0 || len(l.rates) > mostRates {
		t.Errorf("%d more of strangers; %d rates", got, len(l.rates))
	}
	for uid := range 10 * mostRates {
		try(Caller{UID: uid, Member: true}, 1)
	}
	if len(l.rates) > mostRates || len(l.conns) != 0 || l.silent != 0 {
		t.Errorf("%d rates, %d users with connections, %d connections", len(l.rates), len(l.conns), l.silent)
	}
}

// TestTheJournalIsNotFilled: of a thousand refusals of one user it has two lines.
func TestTheJournalIsNotFilled(t *testing.T) {
	r, now := newRefusals(), time.Date(2026, 11, 26, 12, 0, 0, 0, time.UTC)
	r.note(1000, "too many")
	first, _ := r.due(now)
	for range 999 {
		r.note(1000, "far too many")
	}
	none, again := r.due(now.Add(time.Second))
	second, _ := r.due(now.Add(refusalPause))
	if len(first) != 1 || first[0].count != 1 || len(none) != 0 || again != refusalPause-time.Second || len(second) != 1 || second[0].count != 999 {
		t.Errorf("%v, then %v and again after %v, then %v", first, none, again, second)
	}
	for user := range 10 * mostRefused {
		r.note(user, "x")
	}
	if len(r.users) > mostRefused {
		t.Errorf("%d users are remembered", len(r.users))
	}
	r.due(now.Add(time.Hour))
	r.due(now.Add(2 * time.Hour))
	if len(r.users) != 0 {
		t.Errorf("%d users are remembered for ever", len(r.users))
	}
	var text strings.Builder
	stop := make(chan struct{})
	close(stop)
	r.note(7, "refused x")
	r.note(7, "refused x")
	r.tell(slog.New(slog.NewTextHandler(&text, nil)), stop)
	if !strings.Contains(text.String(), "refused x (and 1 more calls of user 7 came to nothing)") {
		t.Errorf("it says %s", text.String())
	}
}

// TestAnAnswerThatHasNoJSON still ends with its error.
func TestAnAnswerThatHasNoJSON(t *testing.T) {
	p := newSocket(t)
	p.serve(calls{list: func(context.Context, string) ([]point.Point, error) {
		return []point.Point{{Properties: json.RawMessage("{")}}, errors.New("damaged")
	}}, nil)
	if _, err := p.client(nil).List(t.Context(), ""); err == nil || err.Error() != "damaged" {
		t.Errorf("its caller heard %v", err)
	}
}
