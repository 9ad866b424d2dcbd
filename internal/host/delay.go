package host

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"sync"
	"time"

	"github.com/coreos/go-systemd/v22/login1"
	"github.com/godbus/dbus/v5"
)

// longestDelay is how long after the announcement of a shutdown a delay lock is
// held at most, whatever its holder does.
const longestDelay = 900 * time.Millisecond

// Delay has this host wait for a moment before it shuts down. When a shutdown is
// announced, the returned context ends with cause, and the lock is released when
// done is called, or within a second. Without logind the context is a plain one,
// and the error says so; done is to be called all the same. systemd-inhibit
// --list shows why.
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
	bus  *dbus.Conn
	lock *os.File
	once sync.Once
	over chan struct{} // closed by done
	all  sync.WaitGroup
	sign <-chan struct{} // a shutdown was announced
}

// Names of logind on the bus.
const (
	logind       = "org.freedesktop.login1"
	announcement = "PrepareForShutdown"
)

func (d *delay) take(why string) (err error) {
	// As go-systemd does it: by number, so that no user is looked up.
	bus, err := dbus.ConnectSystemBus(dbus.WithAuth(dbus.AuthExternal(strconv.Itoa(os.Getuid()))))
	if err != nil {
		return fmt.Errorf("%w (%w)", ErrNoLogind, err)
	}
	signals := make(chan *dbus.Signal, 10)
	bus.Signal(signals)
	err = bus.AddMatchSignal(dbus.WithMatchSender(logind), dbus.WithMatchInterface(logind+".Manager"), dbus.WithMatchMember(announcement))
	var lock *os.File
	if err == nil {
		lock, err = delayLock(why)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("%w (delay lock: %w)", ErrNoLogind, err), bus.Close())
	}
	sign := make(chan struct{})
	d.bus, d.lock, d.sign = bus, lock, sign
	d.all.Go(func() {
		for s := range signals { // closed with the connection
			if begins(s) && ofLogind(bus, s) {
				close(sign)
				return
			}
		}
	})
	return nil
}

func delayLock(why string) (*os.File, error) {
	conn, err := login1.New()
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	return conn.Inhibit("shutdown", "snapd", why, "delay")
}

func begins(s *dbus.Signal) bool {
	if s.Name != logind+".Manager."+announcement || len(s.Body) == 0 {
		return false
	}
	begins, ok := s.Body[0].(bool)
	return ok && begins
}

// ofLogind tells whether logind itself sent a signal. Any user of this host may
// send one of that name, and to us alone, which asks no match.
func ofLogind(bus *dbus.Conn, s *dbus.Signal) bool {
	var owner string
	err := bus.BusObject().Call("org.freedesktop.DBus.GetNameOwner", 0, logind).Store(&owner)
	return err == nil && owner != "" && s.Sender == owner
}

func (d *delay) wait(cancel context.CancelCauseFunc, cause error) {
	defer d.bus.Close() //nolint:errcheck // nothing is left to be said on it
	select {
	case <-d.over:
		return
	case <-d.sign:
	}
	cancel(cause)
	late := time.NewTimer(longestDelay)
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
