package freeze

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// Real-time priorities of the window's threads. The lowest will do: it is
// before every ordinary process. The alarm's is above the window's own.
const (
	windowPriority = 1
	alarmPriority  = 2
)

// raise gives the calling thread, which must be locked, a real-time priority
// and exact sleeps, where that is permitted: on a busy host the thread that
// freezes and thaws would wait for a processor longer than the snapshot takes.
// Children do not inherit it. lower undoes it and tells whether it could;
// a thread that could not be lowered must not be used again.
func raise(priority uint32) (lower func() bool) {
	before, err := unix.SchedGetAttr(0, 0)
	if err != nil {
		return func() bool { return true }
	}
	err = unix.SchedSetAttr(0, &unix.SchedAttr{
		Size:     uint32(unsafe.Sizeof(unix.SchedAttr{})),
		Policy:   unix.SCHED_FIFO,
		Flags:    unix.SCHED_FLAG_RESET_ON_FORK,
		Priority: priority,
	}, 0)
	if err != nil {
		return func() bool { return true }
	}
	return func() bool { return unix.SchedSetAttr(0, before, 0) == nil }
}
