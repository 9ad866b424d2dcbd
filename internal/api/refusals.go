package api

import (
	"fmt"
	"log/slog"
	"sync"
	"time"
)

const (
	// refusalPause is how long after a line about a user's refused calls the next
	// one is written: a user must not fill the journal.
	refusalPause = 10 * time.Second
	// mostRefused is how many users' refusals are counted apart.
	mostRefused = 256
	// ownFaults is the user of what this agent itself could not do.
	ownFaults = -2
)

// refusals are what the journal has to be told of calls that were refused, or of
// members' that came to nothing. The one who refuses never waits for the journal.
type refusals struct {
	mu    sync.Mutex
	users map[int]*refused
	wake  chan struct{}
}

type refused struct {
	last  string    // why
	count int       // since the last line
	told  time.Time // when that was
}

func newRefusals() *refusals {
	return &refusals{users: map[int]*refused{}, wake: make(chan struct{}, 1)}
}

func (r *refusals) note(user int, why string) {
	r.mu.Lock()
	u := r.users[user]
	if u == nil {
		if len(r.users) >= mostRefused {
			clear(r.users)
		}
		u = &refused{}
		r.users[user] = u
	}
	u.last = why
	u.count++
	r.mu.Unlock()
	poke(r.wake)
}

// said is one line about a user.
type said struct {
	user, count int
	last        string
}

// due are the lines to write now, and when to look again.
func (r *refusals) due(now time.Time) (lines []said, again time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	again = refusalPause
	for user, u := range r.users {
		wait := u.told.Add(refusalPause).Sub(now)
		switch {
		case wait > 0 && u.count > 0:
			again = min(again, wait)
		case u.count > 0:
			lines = append(lines, said{user, u.count, u.last})
			u.count, u.told = 0, now
		case wait <= 0:
			delete(r.users, user)
		}
	}
	return lines, again
}

// tell writes them until stop is closed.
func (r *refusals) tell(log *slog.Logger, stop <-chan struct{}) {
	timer := time.NewTimer(refusalPause)
	defer timer.Stop()
	for {
		lines, again := r.due(time.Now())
		for _, s := range lines {
			text := s.last
			if s.count > 1 {
				text = fmt.Sprintf("%s (and %d more calls of user %d came to nothing)", text, s.count-1, s.user)
			}
			log.Warn(text, "uid", s.user, "refused", s.count)
		}
		timer.Reset(again)
		select {
		case <-r.wake:
		case <-timer.C:
		case <-stop:
			return
		}
	}
}
