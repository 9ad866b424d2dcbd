package api

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"snapd/internal/advice"
)

// What users other than root may ask for. Root is not limited.
const (
	// memberPause is how long after a restore point of a group its members get
	// another one: any host can bear a window and a snapshot each minute.
	memberPause = time.Minute
	// memberCalls is how many calls of one user may be under way, and
	// membersCalls how many of all members.
	memberCalls  = 8
	membersCalls = 4 * memberCalls
	// memberConns is how many connections one user may have, and membersConns all
	// of them, so that users who connect and say nothing take root's calls nothing.
	memberConns  = 4 * memberCalls
	membersConns = 4 * memberConns
	// A user may connect rateBurst times at once, and then ratePerSecond times a
	// second; all members four times that.
	rateBurst     = 2 * memberConns
	ratePerSecond = 10
	manyMembers   = 4
	// mostRates is how many users' rates are remembered. A host that has more
	// members than that who call in the same seconds has their rates begin anew.
	mostRates = 1024
)

// strangers is the user as which all those count who may make no call: the socket's
// mode keeps them away already.
const strangers = -1

// everyMember is the user as which all members together count.
const everyMember = -3

// limits count what was asked for. No call of theirs waits for anything: the loop
// that accepts connections asks them. They know only the calls of this agent, which
// lives for a minute after the last one. The record of points knows what was taken
// before, and is asked as well.
type limits struct {
	pace  sync.Mutex           // the loop never takes it: what it guards grows with what is asked for
	taken map[string]time.Time // by group: when a member was last let through

	mu     sync.Mutex
	calls  map[int]int  // by user: how many are under way
	others int          // of calls: those that are not root's
	conns  map[int]int  // by user: how many connections there are
	silent int          // of conns: those that are not root's
	rates  map[int]rate // by user
}

// rate is what a user has left of rateBurst.
type rate struct {
	left float64 // connections
	at   time.Time
}

func newLimits() *limits {
	return &limits{taken: map[string]time.Time{}, calls: map[int]int{}, conns: map[int]int{}, rates: map[int]rate{}}
}

// userOf is as whom a caller counts.
func userOf(who Caller) int {
	if !who.Root && !who.Member {
		return strangers
	}
	return who.UID
}

func tooMuch(format string, args ...any) error {
	return advice.With(advice.In(advice.Busy, fmt.Errorf(format, args...)), "wait a moment and run the same command again; root is not limited")
}

// connect lets a connection in, or says why not. A connection that was let in must
// disconnect.
func (l *limits) connect(who Caller, now time.Time) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	user := userOf(who)
	if !who.Root {
		switch {
		case !l.pay(user, 1, now):
			return tooMuch("user %d calls too often: more than %d times a second", user, ratePerSecond)
		case who.Member && !l.pay(everyMember, manyMembers, now):
			return tooMuch("the members of the group call too often: more than %d times a second", manyMembers*ratePerSecond)
		case l.conns[user] >= memberConns:
			return tooMuch("user %d has %d connections already", user, memberConns)
		case l.silent >= membersConns:
			return tooMuch("the members of the group have %d connections already", membersConns)
		}
		l.silent++
	}
	l.conns[user]++
	return nil
}

// pay takes one connection off a user's rate, if it is not used up. times is how many
// users' rate it is.
func (l *limits) pay(user int, times float64, now time.Time) bool {
	r, known := l.rates[user]
	if !known {
		if len(l.rates) >= mostRates {
			clear(l.rates)
		}
		r = rate{left: times * rateBurst, at: now}
	}
	r.left = min(times*rateBurst, r.left+max(0, now.Sub(r.at).Seconds())*times*ratePerSecond)
	r.at = now
	paid := r.left >= 1
	if paid {
		r.left--
	}
	l.rates[user] = r
	return paid
}

func (l *limits) disconnect(who Caller) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !who.Root {
		l.silent--
	}
	less(l.conns, userOf(who))
}

func less(counts map[int]int, user int) {
	if counts[user]--; counts[user] <= 0 {
		delete(counts, user)
	}
}

// enter counts a call in, unless its user has too many. leave counts it out.
func (l *limits) enter(who Caller) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	user := userOf(who)
	if !who.Root {
		if l.calls[user] >= memberCalls {
			return advice.With(advice.In(advice.Busy, fmt.Errorf("user %d has %d calls under way already", user, memberCalls)), "wait until one of them has ended")
		}
		if l.others >= membersCalls {
			return tooMuch("the members of the group have %d calls under way already", membersCalls)
		}
		l.others++
	}
	l.calls[user]++
	return nil
}

func (l *limits) leave(who Caller) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !who.Root {
		l.others--
	}
	less(l.calls, userOf(who))
}

// snapshot lets a member take restore points of groups, or says when. newest is
// when the record has the last one of each. All groups are let through, or none of
// them counts.
func (l *limits) snapshot(groups []string, newest map[string]time.Time, now time.Time) error {
	l.pace.Lock()
	defer l.pace.Unlock()
	for g, at := range l.taken {
		if now.Sub(at) >= memberPause {
			delete(l.taken, g)
		}
	}
	var faults []error
	for _, g := range groups {
		last := newest[g]
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
