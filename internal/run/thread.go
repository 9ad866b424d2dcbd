package run

import (
	"os"
	"runtime"
	"syscall"
)

// onOwnThread runs prepare, start and wait on one OS thread which does nothing
// else in between, and reports the result of the first two.
func onOwnThread(prepare func() error, started chan<- error, start func() error, wait func()) {
	runtime.LockOSThread()
	if prepare == nil {
		defer runtime.UnlockOSThread()
	} else if syscall.Gettid() == os.Getpid() {
		// The main thread cannot end, and what prepare does to a thread
		// would show in /proc/self: take another one while this is kept busy.
		defer runtime.UnlockOSThread()
		done := make(chan struct{})
		go func() {
			defer close(done)
			onOwnThread(prepare, started, start, wait)
		}()
		<-done
		return
	} else if err := prepare(); err != nil {
		started <- err
		return // still locked: the thread ends here
	}
	err := start()
	started <- err
	if err == nil {
		wait()
	}
}
