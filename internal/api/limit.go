package api

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"snapd/internal/advice"
)

// What members of the group may ask for. Root is not limited.
const (
	// memberPause is how long after a restore point of a group its members get
	// another one: any host can bear a window and a snapshot each minute.
	memberPause = time.Minute
	// memberCalls is how many calls of one user may be under way.
	memberCalls = 8
	// memberConns is how many connections one user may have, so that a user who
	// connects and says nothing cannot keep root's calls out. Calls beyond
	// memberCalls are told why they are refused; connections beyond memberConns
	// are closed without a word.
	memberConns = 4 * memberCalls
)

// limits count what was asked for. Its memory is that of one agent, which
// lives for a minute after the last call; what was taken before that stands in
// the record of points, which is asked as well.
type limits struct {
	mu    sync.Mutex
	taken map[string]time.Time // by group: when a member was last let through
	calls map[int]int          // by user: how many are under way
	conns map[int]int          // by user: how many connections there are
}

func newLimits() *limits {
	return &limits{taken: map[string]time.Time{}, calls: map[int]int{}, conns: map[int]int{}}
}

// connect lets a connection in, unless its user has too many. A connection that
// was let in must disconnect.
func (l *limits) connect(who Caller) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !who.Root && l.conns[who.UID] >= memberConns {
		return false
	}
	l.conns[who.UID]++
	return true
}

func (l *limits) disconnect(who Caller) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.conns[who.UID]--; l.conns[who.UID] <= 0 {
		delete(l.conns, who.UID)
	}
}

// enter counts a call in, unless its user has too many. leave counts it out.
func (l *limits) enter(who Caller) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !who.Root && l.calls[who.UID] >= memberCalls {
		return advice.With(advice.In(advice.Busy, fmt.Errorf("user %d has %d calls under way already", who.UID, memberCalls)), "wait until one of them has ended")
	}
	l.calls[who.UID]++
	return nil
}

func (l *limits) leave(who Caller) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.calls[who.UID]--; l.calls[who.UID] <= 0 {
		delete(l.calls, who.UID)
	}
}

// snapshot lets a member take restore points of groups, or says when. newest is
// when the record has the last one of a group. All groups are let through, or
// none of them counts.
func (l *limits) snapshot(who Caller, groups []string, newest func(group string) (time.Time, error), now time.Time) error {
	if who.Root {
		return nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	var faults []error
	for _, g := range groups {
		last, err := newest(g)
		if err != nil {
			return err
		}
		if l.taken[g].After(last) {
			last = l.taken[g]
		}
		// A clock that was set back must not lock the group for longer.
		if wait := memberPause - now.Sub(last); wait > 0 && wait <= memberPause {
			faults = append(faults, fmt.Errorf("group %s had a restore point %s ago, and members of the group get one a minute", g, (memberPause-wait).Round(time.Second)))
		}
	}
	if len(faults) > 0 {
		return advice.With(advice.In(advice.Busy, errors.Join(faults...)), "wait a minute; root is not limited")
	}
	for _, g := range groups {
		l.taken[g] = now
	}
	return nil
}
