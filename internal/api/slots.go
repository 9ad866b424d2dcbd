package api

import (
	"context"
	"sync"
)

// slots limit how many calls of one kind run at once; the others wait. Root's
// have slots of their own, which no member's call can take, and one member has one:
// what a member asks of a repository that does not answer keeps neither root nor
// another member out.
type slots struct {
	root    chan struct{}
	members chan struct{}

	mu    sync.Mutex
	users map[int]*userSlot
}

// userSlot is that of one user; it is forgotten when no call wants it.
type userSlot struct {
	busy chan struct{}
	want int // calls that have it or wait for it
}

func newSlots(root, members int) *slots {
	return &slots{root: make(chan struct{}, root), members: make(chan struct{}, members), users: map[int]*userSlot{}}
}

// enter waits for a slot. leave gives it back; it is to be called once, and only
// when there is no error.
func (s *slots) enter(ctx context.Context, who Caller) (leave func(), err error) {
	if who.Root {
		return take(ctx, s.root)
	}
	user := userOf(who)
	mine, forget := s.of(user)
	leaveMine, err := take(ctx, mine.busy)
	if err != nil {
		forget()
		return nil, err
	}
	leaveAll, err := take(ctx, s.members)
	if err != nil {
		leaveMine()
		forget()
		return nil, err
	}
	return func() {
		leaveAll()
		leaveMine()
		forget()
	}, nil
}

func take(ctx context.Context, slot chan struct{}) (leave func(), err error) {
	select {
	case slot <- struct{}{}:
		return func() { <-slot }, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (s *slots) of(user int) (mine *userSlot, forget func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	mine = s.users[user]
	if mine == nil {
		mine = &userSlot{busy: make(chan struct{}, 1)}
		s.users[user] = mine
	}
	mine.want++
	return mine, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if mine.want--; mine.want == 0 {
			delete(s.users, user)
		}
	}
}
