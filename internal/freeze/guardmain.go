package freeze

import (
	"context"
	"encoding/binary"
	"errors"
	"os"
	"os/signal"
	"runtime"
	"slices"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// The guard's own times.
const (
	guardGrace  = 100 * time.Millisecond // after the deadline: the window's own alarm is first
	guardEvery  = 10 * time.Millisecond  // between two looks, as long as the window may still freeze a member
	guardSlow   = 100 * time.Millisecond // the same after a second
	guardLinger = time.Second            // after a signal, for the window to come to its end
	guardEngine = time.Minute            // for an engine that is down or hangs, after the window died
	guardAgain  = 250 * time.Millisecond // between two calls to it
)

// IsGuard tells whether this process was started to be the guard of a window.
// A program that opens windows with Options.Guard asks it before anything
// else, and ends with what Guard returns.
func IsGuard() bool { return len(os.Args) == 3 && os.Args[0] == guardName }

// Guard is the whole life of a guard; it returns the exit status. It never
// freezes. It thaws everything when its window's process ends without having
// said that it is done, shortly after the deadline, and on a signal. As long
// as that process lives and might still freeze a member, it looks again.
// connect is used only for members that the engine has to thaw.
func Guard(ctx context.Context, connect Connect) int {
	n, err := strconv.Atoi(os.Args[2])
	if err != nil || n < guardFirst {
		return 2
	}
	w := &guardProcess{connect: connect, path: os.Args[1]}
	if err := w.prepare(n); err != nil {
		return 1
	}
	if !w.serve(ctx) {
		return 1
	}
	return 0
}

// guardProcess is the guard's side of a window.
type guardProcess struct {
	connect Connect
	path    string
	journal *journal
	members []journalMember
	engine  string
	cgroups []*target // in the order of the members
	disks   []int     // descriptors
	timer   int       // timerfd of the deadline
	wake    int       // eventfd: a signal came
	opened  bool      // the window has said that it freezes
}

const (
	guardSocket  = 3
	guardJournal = 4
)

func (w *guardProcess) prepare(files int) error {
	w.journal = &journal{path: w.path, file: os.NewFile(guardJournal, w.path)}
	lock := unix.Flock_t{Type: unix.F_WRLCK}
	if err := unix.FcntlFlock(guardJournal, unix.F_SETLK, &lock); err != nil {
		return err
	}
	c, err := w.journal.read()
	if err != nil {
		return err
	}
	w.members, w.engine = c.Members, c.Engine
	next := guardFirst
	for _, m := range c.Members {
		if m.How == ByCgroup {
			t := newTarget(m.member())
			t.freezer, next = next, next+1
			w.cgroups = append(w.cgroups, t)
		}
	}
	for range c.Disks {
		w.disks, next = append(w.disks, next), next+1
	}
	if next != files {
		return errors.New("the journal and the descriptors do not fit")
	}
	if w.timer, err = unix.TimerfdCreate(unix.CLOCK_MONOTONIC, unix.TFD_CLOEXEC); err != nil {
		return err
	}
	if w.wake, err = unix.Eventfd(0, unix.EFD_CLOEXEC); err != nil {
		return err
	}
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, unix.SIGTERM, unix.SIGINT, unix.SIGHUP)
	signal.Ignore(unix.SIGPIPE)
	go func() {
		for range signals {
			_, _ = unix.Write(w.wake, []byte{1, 0, 0, 0, 0, 0, 0, 0})
		}
	}()
	return nil
}

// serve waits for what happens, and tells whether everything is thawed in the
// end.
func (w *guardProcess) serve(ctx context.Context) bool {
	runtime.LockOSThread()
	_ = raise(alarmPriority) // the process ends with it
	// Locked as it is used: all of a Go program's address space would be much,
	// and what the guard needs it has used once it has rehearsed.
	_ = unix.Mlockall(unix.MCL_CURRENT | unix.MCL_FUTURE | unix.MCL_ONFAULT)
	w.rehearse()
	if err := unix.Sendto(guardSocket, []byte{saysReady}, unix.MSG_NOSIGNAL, nil); err != nil {
		return true // the window is gone, and has frozen nothing
	}
	for {
		switch w.next(nil) {
		case eventOpen:
			w.opened = true
		case eventDone:
			return true
		case eventEnd:
			if !w.opened { // no member was told to freeze
				return w.unlink() == nil
			}
			return w.afterDeath(ctx)
		case eventDeadline:
			return w.lookAgain(ctx, ByPause)
		case eventSignal:
			if !w.opened {
				return true
			}
			return w.lookAgain(ctx, ByPause, ByStop)
		}
	}
}

// rehearse goes the way of a thaw without its last step.
func (w *guardProcess) rehearse() {
	zero := unix.Timespec{}
	w.wait(&zero)
	for _, t := range w.cgroups {
		_, _ = t.switchedOn()
	}
	for _, fd := range w.disks {
		var st unix.Stat_t
		_ = unix.Fstat(fd, &st)
	}
	_ = time.Now()
}

type event int

const (
	eventNone event = iota
	eventOpen
	eventDone
	eventEnd // of the window's process
	eventDeadline
	eventSignal
)

func (w *guardProcess) wait(limit *unix.Timespec) []unix.PollFd {
	fds := []unix.PollFd{
		{Fd: guardSocket, Events: unix.POLLIN},
		{Fd: int32(w.timer), Events: unix.POLLIN},
		{Fd: int32(w.wake), Events: unix.POLLIN},
	}
	if _, err := unix.Ppoll(fds, limit, nil); err != nil {
		return nil // EINTR
	}
	return fds
}

// next waits for one thing to happen, for at most limit when that is not nil.
func (w *guardProcess) next(limit *unix.Timespec) event {
	fds := w.wait(limit)
	switch {
	case fds == nil:
		return eventNone
	case fds[0].Revents != 0:
		return w.hear()
	case fds[2].Revents != 0:
		drain(w.wake)
		return eventSignal
	case fds[1].Revents != 0:
		drain(w.timer)
		return eventDeadline
	}
	return eventNone
}

func drain(fd int) {
	var b [8]byte
	_, _ = unix.Read(fd, b[:])
}

func (w *guardProcess) hear() event {
	var word [16]byte
	n, _, err := unix.Recvfrom(guardSocket, word[:], unix.MSG_DONTWAIT)
	switch {
	case err == unix.EINTR || err == unix.EAGAIN:
		return eventNone
	case err != nil || n == 0:
		return eventEnd
	case word[0] == saysDone:
		return eventDone
	case word[0] == saysOpen && n == 9:
		deadline := int64(binary.LittleEndian.Uint64(word[1:9])) + int64(guardGrace)
		at := unix.ItimerSpec{Value: unix.NsecToTimespec(deadline)}
		if err := unix.TimerfdSettime(w.timer, unix.TFD_TIMER_ABSTIME, &at, nil); err != nil {
			return eventEnd // a window without a deadline is worse than none
		}
		return eventOpen
	}
	return eventNone
}

// lookAgain thaws everything, and goes on doing so until the window's process
// has said that it is done, or has ended: it may have been held up between
// looking at the clock and freezing a member. Those that the engine froze in
// the given ways are thawed once.
func (w *guardProcess) lookAgain(ctx context.Context, hows ...How) bool {
	_ = unix.Sendto(guardSocket, []byte{saysThawed}, unix.MSG_NOSIGNAL|unix.MSG_DONTWAIT, nil)
	w.thaw()
	go w.thawByEngine(ctx, hows...)
	end := time.Time{}
	if slices.Contains(hows, ByStop) { // a signal: do not outlast it for long
		end = time.Now().Add(guardLinger)
	}
	for begun := time.Now(); ; {
		pause := guardEvery
		if time.Since(begun) > time.Second {
			pause = guardSlow
		}
		limit := unix.NsecToTimespec(int64(pause))
		switch w.next(&limit) {
		case eventDone:
			return true
		case eventEnd:
			return w.afterDeath(ctx)
		case eventSignal:
			end = time.Now().Add(guardLinger)
		}
		w.thaw()
		if !end.IsZero() && time.Now().After(end) {
			return false
		}
	}
}

// thaw thaws filesystems, and then cgroups. A filesystem that does not come
// back keeps no member waiting.
func (w *guardProcess) thaw() {
	w.thawDisks(diskPatience)
	for _, t := range slices.Backward(w.cgroups) {
		if on, err := t.switchedOn(); on || err != nil {
			_ = t.write('0')
		}
	}
}

// thawDisks tells whether none is frozen any more.
func (w *guardProcess) thawDisks(patience time.Duration) bool {
	if len(w.disks) == 0 {
		return true
	}
	moving := make(chan bool, len(w.disks))
	for _, fd := range w.disks {
		go func() {
			_, err := thawFilesystem(fd)
			moving <- err == nil
		}()
	}
	enough := time.NewTimer(patience)
	defer enough.Stop()
	all := true
	for range w.disks {
		select {
		case ok := <-moving:
			all = all && ok
		case <-enough.C:
			return false
		}
	}
	return all
}

// afterDeath thaws everything for good: the process is gone, with every thread
// that was still freezing something. When all is thawed, the journal goes.
func (w *guardProcess) afterDeath(ctx context.Context) bool {
	w.thaw()
	moving := w.thawDisks(diskLimit)
	for _, t := range w.cgroups {
		if on, err := t.switchedOn(); on || err != nil {
			moving = false
		}
	}
	if !w.thawByEngine(ctx, ByPause, ByStop) || !moving {
		return false
	}
	if err := w.journal.setState(stateThawed); err != nil {
		return false
	}
	return w.unlink() == nil
}

// unlink removes the journal if its name is still that of our file.
func (w *guardProcess) unlink() error {
	var ours, named unix.Stat_t
	if err := unix.Fstat(guardJournal, &ours); err != nil {
		return err
	}
	if err := unix.Lstat(w.path, &named); err != nil || named.Ino != ours.Ino || named.Dev != ours.Dev {
		return err
	}
	return w.journal.remove()
}

// thawByEngine has the engine thaw those that were frozen in one of the given
// ways, in reverse order, and tells whether all of them run again.
func (w *guardProcess) thawByEngine(ctx context.Context, hows ...How) bool {
	if !slices.ContainsFunc(w.members, func(m journalMember) bool { return slices.Contains(hows, m.How) }) {
		return true
	}
	ctx, cancel := context.WithTimeout(ctx, guardEngine)
	defer cancel()
	for {
		if w.askEngine(ctx, hows) == nil {
			return true
		}
		select {
		case <-ctx.Done():
			return false
		case <-time.After(guardAgain):
		}
	}
}

// askEngine is one attempt.
func (w *guardProcess) askEngine(ctx context.Context, hows []How) error {
	engine, err := w.connect(ctx, w.engine)
	if err != nil {
		return err
	}
	c, err := w.journal.read() // what has been touched since
	if err != nil {
		return err
	}
	_, errs := c.recoverMembers(ctx, engine, hows...)
	return errors.Join(errs...)
}
