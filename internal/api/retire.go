package api

import (
	"context"

	"snapd/internal/agent"
)

// Retire has the agent make way for one that systemd starts anew: it takes calls as
// before, and ends in the first moment in which it has nothing to do but what the next
// agent can go on with. A restore point is taken to its end, hooks included.
func (c *Client) Retire(ctx context.Context) error {
	return c.call(ctx, pathRetire, request{}, nil)
}

// retire notes that the agent is to end when it can. The loop that accepts calls
// decides when that is.
func (s *Server) retire() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.retiring = true
}

// Retired tells whether Serve ended because it was told to retire.
func (s *Server) Retired() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.retired
}

// makesWay tells whether this is the moment to end in. Only the loop that accepts
// calls asks, so that none can come in between. A connection of root that has not said
// yet what it wants is waited for. Members' are not, nor what they only look at: they
// could keep the agent from ending for as long as they like.
func (s *Server) makesWay() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.retiring {
		return false
	}
	goesOn := 0
	for c := range s.calls {
		switch {
		case c.who.Root && c.canGoOn():
			goesOn++
		case !c.who.Root && c.steps.Any() && c.begun() != nil:
			return false
		}
	}
	s.retired = s.retired || goesOn == s.roots
	return s.retired
}

// canGoOn tells whether another agent can go on with the call where this one stops.
func (c *call) canGoOn() bool {
	if !c.steps.Ship && !c.steps.Prune {
		return false
	}
	if !c.steps.Snapshot {
		return true
	}
	h, knows := c.begun().(HandsOn)
	return knows && h.CanGoOn()
}

// begun is what carries a call out, nil while it waits for its slot, or is refused yet.
func (c *call) begun() Calls {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.calls
}

// stepsUnder are those of a call of one kind; others have none.
func stepsUnder(o op, r request) agent.Steps {
	if o.path != pathDo {
		return agent.Steps{}
	}
	return r.Steps
}
