package freeze

import (
	"fmt"
	"runtime"
	"time"

	"golang.org/x/sys/unix"
)

// alarm thaws at the deadline, on an operating-system thread of its own that
// waits in the kernel and not in Go's scheduler.
type alarm struct {
	wake int // eventfd: written to stop it
	done chan struct{}
}

// arm returns when the alarm's thread is about to wait.
func (w *Window) arm() (*alarm, error) {
	wake, err := unix.Eventfd(0, unix.EFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("arm the deadline: %w", err)
	}
	a := &alarm{wake: wake, done: make(chan struct{})}
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
		deadline := time.Now().Add(w.options.Deadline)
		close(ready)
		if a.wait(deadline) {
			w.thaw(true)
		}
	}()
	<-ready
	return a, nil
}

// wait tells whether the deadline came before stop.
func (a *alarm) wait(deadline time.Time) bool {
	fds := []unix.PollFd{{Fd: int32(a.wake), Events: unix.POLLIN}}
	for {
		left := time.Until(deadline)
		if left <= 0 {
			return true
		}
		timeout := unix.NsecToTimespec(int64(left))
		n, err := unix.Ppoll(fds, &timeout, nil)
		if n > 0 {
			return false
		}
		if err != nil && err != unix.EINTR {
			time.Sleep(left)
			return true
		}
	}
}

// stop ends the alarm and waits for it.
func (a *alarm) stop() {
	_, _ = unix.Write(a.wake, []byte{1, 0, 0, 0, 0, 0, 0, 0}) // an eventfd at 0 takes it
	<-a.done
	unix.Close(a.wake)
}
