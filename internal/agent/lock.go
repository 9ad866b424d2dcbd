package agent

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"snapd/internal/advice"

	"golang.org/x/sys/unix"
)

// lock is held by one process of this host until it is released or dies.
type lock struct{ f *os.File }

// tryLock takes a lock at once or gives advice.Busy. what is for people.
func (a *Agent) tryLock(name, what string) (*lock, error) {
	f, err := os.OpenFile(filepath.Join(a.Run, name+".lock"), os.O_CREATE|os.O_RDWR|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock %s: %w", what, err)
	}
	err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if err == nil {
		return &lock{f: f}, nil
	}
	err = errors.Join(err, f.Close())
	if errors.Is(err, unix.EWOULDBLOCK) {
		return nil, advice.In(advice.Busy, fmt.Errorf("%s is in use by another snapd", what))
	}
	return nil, fmt.Errorf("lock %s: %w", what, err)
}

// waitLock takes a lock that others hold for a short time only.
func (a *Agent) waitLock(ctx context.Context, name, what string, patience time.Duration) (*lock, error) {
	enough := time.NewTimer(patience)
	defer enough.Stop()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		l, err := a.tryLock(name, what)
		if err == nil || !errors.Is(err, advice.Busy) {
			return l, err
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-enough.C:
			return nil, fmt.Errorf("%w for %s already", err, patience)
		case <-tick.C:
		}
	}
}

// release may be called on a nil lock. The file stays: removing it would let
// two processes hold one name.
func (l *lock) release() error {
	if l == nil {
		return nil
	}
	return l.f.Close()
}
