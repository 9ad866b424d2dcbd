package freeze

import (
	"fmt"
	"runtime"
	"time"

	"golang.org/x/sys/unix"
)

// alarm thaws at the deadline, on an operating-system thread of its own that
// waits in the kernel and not in Go's scheduler: on a busy host that one can
// come late by milliseconds.
type alarm struct {
	timer int // timerfd
	wake  int // eventfd: written to stop it
	done  chan struct{}
}

// arm returns when the alarm's thread waits; start sets it going.
func (w *Window) arm() (*alarm, error) {
	timer, err := unix.TimerfdCreate(unix.CLOCK_MONOTONIC, unix.TFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("arm the deadline: %w", err)
	}
	wake, err := unix.Eventfd(0, unix.EFD_CLOEXEC)
	if err != nil {
		_ = unix.Close(timer)
		return nil, fmt.Errorf("arm the deadline: %w", err)
	}
	a := &alarm{timer: timer, wake: wake, done: make(chan struct{})}
	ready := make(chan struct{})
	go func() {
		defer close(a.done)
		runtime.LockOSThread()
		lower := raise(alarmPriority)
		defer func() {
			if lower() {
				runtime.UnlockOSThread()
			}
		}()
		close(ready)
		if a.wait() {
			w.thaw(true)
		}
	}()
	<-ready
	return a, nil
}

// start lets the deadline pass d from now.
func (a *alarm) start(d time.Duration) error {
	at := unix.ItimerSpec{Value: unix.NsecToTimespec(int64(d))}
	if err := unix.TimerfdSettime(a.timer, 0, &at, nil); err != nil {
		return fmt.Errorf("arm the deadline: %w", err)
	}
	return nil
}

// wait tells whether the deadline came before stop. Should waiting fail, it
// says that it came: a window too short does less harm than one without end.
func (a *alarm) wait() bool {
	fds := []unix.PollFd{{Fd: int32(a.wake), Events: unix.POLLIN}, {Fd: int32(a.timer), Events: unix.POLLIN}}
	for {
		_, err := unix.Ppoll(fds, nil, nil)
		switch {
		case err == unix.EINTR:
		case err == nil && fds[0].Revents != 0:
			return false
		default:
			return true
		}
	}
}

// stop ends the alarm and waits for it.
func (a *alarm) stop() {
	_, _ = unix.Write(a.wake, []byte{1, 0, 0, 0, 0, 0, 0, 0}) // an eventfd at 0 takes it
	<-a.done
	_ = unix.Close(a.wake)
	_ = unix.Close(a.timer)
}
