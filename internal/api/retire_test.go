package api

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"snapd/internal/advice"
	"snapd/internal/agent"
	"snapd/internal/point"
)

// handing is an agent that knows when its restore points are taken.
type handing struct {
	calls
	taken *atomic.Bool
}

var _ HandsOn = handing{}

func (h handing) CanGoOn() bool { return h.taken.Load() }

// retiring serves one agent; ended gets what Serve returned.
func (p *socket) retiring(c Calls) (s *Server, ended chan error) {
	p.t.Helper()
	s = NewServer(Options{Calls: func(agent.Report) (Calls, error) { return c, nil }, Caller: callerByName, Idle: time.Hour, Tick: 10 * time.Millisecond})
	ended = make(chan error, 1)
	l := p.listener()
	go func() { ended <- s.Serve(context.Background(), l) }()
	return s, ended
}

func (p *socket) awaitEnd(s *Server, ended <-chan error) {
	p.t.Helper()
	select {
	case err := <-ended:
		if err != nil || !s.Retired() {
			p.t.Errorf("it ended with %v; retired: %t", err, s.Retired())
		}
	case <-time.After(10 * time.Second):
		p.t.Fatal("it does not end")
	}
}

// TestRetireWaitsForAHook: the sandbox changed in the middle of a hook. The call ends
// as if nothing had been, others are served meanwhile, and then the agent ends.
func TestRetireWaitsForAHook(t *testing.T) {
	p := newSocket(t)
	began, hook := make(chan struct{}), make(chan struct{})
	s, ended := p.retiring(calls{
		do: func(ctx context.Context, _ agent.Report, _ []string, _ agent.Steps) (agent.Done, error) {
			close(began)
			select {
			case <-hook:
				return agent.Done{Points: []point.Point{{ID: "0000000000000001"}}}, nil
			case <-ctx.Done():
				return agent.Done{}, ctx.Err()
			}
		},
		status: func() (agent.Status, error) { return agent.Status{}, nil },
	})
	result := make(chan error, 1)
	go func() {
		done, err := p.client(nil).Do(t.Context(), []string{"shop"}, agent.Steps{Snapshot: true, Ship: true})
		if len(done.Points) != 1 {
			err = errors.Join(err, errors.New("no point"))
		}
		result <- err
	}()
	<-began
	if err := p.clientAs("member-1000").Retire(t.Context()); !errors.Is(err, agent.ErrNotRoot) {
		t.Errorf("a member: %v", err)
	}
	if err := p.client(nil).Retire(t.Context()); err != nil {
		t.Fatal(err)
	}
	for range 5 {
		if _, err := p.client(nil).Status(t.Context()); err != nil {
			t.Error(err)
		}
		time.Sleep(20 * time.Millisecond) // turns of the loop, each of which could end it
	}
	select {
	case err := <-ended:
		t.Fatalf("it ended in the middle: %v", err)
	case err := <-result:
		t.Fatalf("the call was ended: %v", err)
	default:
	}
	close(hook)
	if err := <-result; err != nil {
		t.Error(err)
	}
	p.awaitEnd(s, ended)
}

// TestRetireHandsAShipOn: what only ships is not waited for, for days: the next agent
// goes on with it, once all restore points of the call are taken.
func TestRetireHandsAShipOn(t *testing.T) {
	p := newSocket(t)
	taken, began := &atomic.Bool{}, make(chan struct{})
	s, ended := p.retiring(handing{taken: taken, calls: calls{
		do: func(ctx context.Context, _ agent.Report, _ []string, steps agent.Steps) (agent.Done, error) {
			close(began)
			<-ctx.Done()
			return agent.Done{Points: []point.Point{{ID: "0000000000000001"}}, Left: agent.Steps{Ship: steps.Ship, Prune: steps.Prune}}, errors.Join(advice.Partial, ctx.Err())
		},
	}})
	result := make(chan error, 1)
	go func() {
		_, err := p.client(nil).Do(t.Context(), []string{"shop"}, agent.Steps{Snapshot: true, Ship: true, Prune: true})
		result <- err
	}()
	<-began
	if err := p.client(nil).Retire(t.Context()); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-ended:
		t.Fatalf("it ended while points were being taken: %v", err)
	case <-time.After(100 * time.Millisecond):
	}
	taken.Store(true)
	p.awaitEnd(s, ended)
	var asked agent.Steps
	next, nextEnded := p.retiring(handing{taken: taken, calls: calls{
		do: func(_ context.Context, _ agent.Report, _ []string, steps agent.Steps) (agent.Done, error) {
			asked = steps
			return agent.Done{}, nil
		},
	}})
	if err := <-result; err != nil || asked != (agent.Steps{Ship: true, Prune: true}) {
		t.Errorf("the next agent was asked for %+v, and the caller heard %v", asked, err)
	}
	if err := p.client(nil).Retire(t.Context()); err != nil {
		t.Error(err)
	}
	p.awaitEnd(next, nextEnded)
}

// TestMembersKeepNoAgentFromRetiring: neither by silence nor by what they look at.
func TestMembersKeepNoAgentFromRetiring(t *testing.T) {
	p := newSocket(t)
	s, ended := p.retiring(burdened())
	look := make(chan error, 1)
	go func() { _, err := p.clientAs("member-1000").List(t.Context(), "dead"); look <- err }()
	for len(s.under()) == 0 {
		time.Sleep(time.Millisecond)
	}
	silent := p.as("member-1001")
	if err := p.client(nil).Retire(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := <-look; err == nil {
		t.Error("a look at a dead repository ended well")
	}
	silent.Close()
	p.awaitEnd(s, ended)
}
