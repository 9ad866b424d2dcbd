package host

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/coreos/go-systemd/v22/login1"
	"github.com/godbus/dbus/v5"
)

// letGo is how long after the announcement of a shutdown a delay lock is held
// at most, whatever its holder does.
const letGo = 900 * time.Millisecond

// Delay has this host wait for a moment before it shuts down: when a shutdown
// is announced, the returned context ends with cause, and the lock is let go
// when done is called, or within a second. Without logind the context is a plain
// one, and the error says so; done is to be called all the same. why is shown by
// systemd-inhibit --list.
func Delay(ctx context.Context, why string, cause error) (_ context.Context, done func(), err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	d := &delay{over: make(chan struct{})}
	switch err := d.take(why); {
	case goingDown(err):
		cancel(cause)
		return ctx, func() {}, nil
	case err != nil:
		return ctx, func() { cancel(nil) }, err
	}
	d.all.Go(func() { d.wait(cancel, cause) })
	return ctx, func() {
		d.release()
		close(d.over)
		d.all.Wait()
		cancel(nil)
	}, nil
}

// goingDown tells whether logind refused a lock because what it would delay is
// under way already.
func goingDown(err error) bool {
	refused, ok := errors.AsType[dbus.Error](err)
	return ok && refused.Name == "org.freedesktop.login1.OperationInProgress"
}

type delay struct {
	conn *login1.Conn
	lock *os.File
	once sync.Once
	over chan struct{} // closed by done
	all  sync.WaitGroup
	sign <-chan struct{} // a shutdown was announced
}

func (d *delay) take(why string) error {
	conn, err := login1.New()
	if err != nil {
		return fmt.Errorf("%w (%w)", ErrNoLogind, err)
	}
	signals := conn.Subscribe("PrepareForShutdown")
	sign := make(chan struct{})
	lock, err := conn.Inhibit("shutdown", "snapd", why, "delay")
	if err != nil {
		conn.Close()
		return fmt.Errorf("%w (delay lock: %w)", ErrNoLogind, err)
	}
	d.conn, d.lock, d.sign = conn, lock, sign
	d.all.Go(func() {
		for s := range signals { // closed with the connection
			if s.Name != "org.freedesktop.login1.Manager.PrepareForShutdown" || len(s.Body) == 0 {
				continue
			}
			if begins, ok := s.Body[0].(bool); ok && begins {
				close(sign)
				return
			}
		}
	})
	return nil
}

func (d *delay) wait(cancel context.CancelCauseFunc, cause error) {
	defer d.conn.Close()
	select {
	case <-d.over:
		return
	case <-d.sign:
	}
	cancel(cause)
	late := time.NewTimer(letGo)
	defer late.Stop()
	select {
	case <-d.over:
	case <-late.C:
		d.release()
		<-d.over
	}
}

func (d *delay) release() {
	d.once.Do(func() { _ = d.lock.Close() }) // a lock that cannot be closed goes with the process
}
