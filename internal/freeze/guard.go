package freeze

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// The guard is this program, started anew under another name. It gets a
// socket to its window, the journal, and one descriptor for each cgroup and
// filesystem, in the journal's order; nothing else.
const (
	guardName  = "snapd-guard"
	guardFirst = 5 // descriptors: the standard ones are /dev/null, 3 is the socket, 4 the journal
)

// What the two say to each other, one byte first.
const (
	saysReady  = 'r' // guard: it waits
	saysOpen   = 'o' // window: members are frozen from now on; 8 bytes of CLOCK_MONOTONIC follow, in ns: the deadline
	saysThawed = 't' // guard: it thaws everything
	saysDone   = 'd' // window: nothing is frozen, and the guard may end
)

// Limits of dealing with the guard.
const (
	guardStart = 20 * time.Second // a slow machine starts a program slowly
	guardEnd   = 2 * time.Second
)

// guard is a window's end of its guard.
type guard struct {
	pid    int
	socket int
	mu     sync.Mutex    // held to signal the process, and to reap it
	reaped bool          // under mu: the number may be another's
	ended  chan struct{} // closed when it has been reaped
}

// startGuard starts it and returns when it is ready.
func (w *Window) startGuard() (_ *guard, err error) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("make a socket: %w", err)
	}
	g := &guard{socket: pair[0], ended: make(chan struct{})}
	theirs := pair[1]
	files, err := w.guardFiles(theirs)
	if err == nil {
		// What our own parent left open for us must not live on in the guard: it
		// may be another program's lock. (The guard cannot close it itself, since
		// by then the runtime has descriptors of its own.)
		_ = unix.CloseRange(3, math.MaxUint32, unix.CLOSE_RANGE_CLOEXEC)
		g.pid, err = syscall.ForkExec("/proc/self/exe", []string{guardName, w.journal.path, fmt.Sprint(len(files))}, &syscall.ProcAttr{
			Dir: "/", Env: guardEnvironment(), Files: files,
			Sys: &syscall.SysProcAttr{Setsid: true},
		})
	}
	_ = unix.Close(theirs)
	if len(files) > 0 {
		_ = unix.Close(int(files[0]))
		_ = unix.Close(int(files[4]))
	}
	if err != nil {
		_ = unix.Close(g.socket)
		return nil, fmt.Errorf("start it: %w", err)
	}
	go g.reap()
	if err := g.awaitReady(); err != nil {
		g.kill()
		g.close()
		return nil, err
	}
	return g, nil
}

// guardEnvironment keeps it small.
func guardEnvironment() []string { return []string{"GOMAXPROCS=1", "GOTRACEBACK=none"} }

// guardFiles are its descriptors. Those of /dev/null and of the journal, which
// it gets opened anew so that it does not share our lock, are the caller's to
// close.
func (w *Window) guardFiles(socket int) ([]uintptr, error) {
	null, err := unix.Open("/dev/null", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	journal, err := unix.Open(fmt.Sprintf("/proc/self/fd/%d", w.journal.file.Fd()), unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		_ = unix.Close(null)
		return nil, fmt.Errorf("open the journal again: %w", err)
	}
	files := []uintptr{uintptr(null), uintptr(null), uintptr(null), uintptr(socket), uintptr(journal)}
	for _, t := range w.targets {
		if t.how == ByCgroup {
			files = append(files, uintptr(t.freezer))
		}
	}
	for _, d := range w.disks {
		files = append(files, uintptr(d.fd))
	}
	return files, nil
}

// awaitReady waits for the guard's first word.
func (g *guard) awaitReady() error {
	fds := []unix.PollFd{{Fd: int32(g.socket), Events: unix.POLLIN}}
	end := time.Now().Add(guardStart)
	for {
		left := unix.NsecToTimespec(max(0, int64(time.Until(end))))
		n, err := unix.Ppoll(fds, &left, nil)
		switch {
		case err == unix.EINTR:
			continue
		case err != nil:
			return fmt.Errorf("wait for it: %w", err)
		case n == 0:
			return fmt.Errorf("it was not ready within %v", guardStart)
		}
		if g.heard() == saysReady {
			return nil
		}
		return errors.New("it ended before it was ready")
	}
}

// reap waits for the process, so that it does not stay behind as a zombie.
func (g *guard) reap() {
	defer close(g.ended)
	var info unix.Siginfo
	for { // stays a zombie until its number can no longer be signalled by mistake
		if err := unix.Waitid(unix.P_PID, g.pid, &info, unix.WEXITED|unix.WNOWAIT, nil); err != unix.EINTR {
			break
		}
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	for {
		if _, err := unix.Wait4(g.pid, nil, 0, nil); err != unix.EINTR {
			break
		}
	}
	g.reaped = true
}

func (g *guard) kill() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.reaped {
		_ = unix.Kill(g.pid, unix.SIGKILL)
	}
}

// heard returns what the guard said, 0 when it said nothing, and saysEnd when
// it has ended. It never waits and allocates nothing.
func (g *guard) heard() byte {
	var b [1]byte
	for {
		n, _, err := unix.Recvfrom(g.socket, b[:], unix.MSG_DONTWAIT)
		switch {
		case err == unix.EINTR:
		case err == unix.EAGAIN:
			return 0
		case err != nil || n == 0:
			return saysEnd
		default:
			return b[0]
		}
	}
}

// saysEnd is not said: it stands for a guard that has ended.
const saysEnd = 'e'

// open tells the guard that members are frozen from now on. One that has
// ended is an error: the window must not begin without it.
func (g *guard) open(d time.Duration) error {
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &now); err != nil {
		return fmt.Errorf("read the clock: %w", err)
	}
	word := make([]byte, 9)
	word[0] = saysOpen
	binary.LittleEndian.PutUint64(word[1:], uint64(now.Nano()+int64(d)))
	if g.heard() == saysEnd {
		return errGuardEnded
	}
	if err := unix.Sendto(g.socket, word, unix.MSG_NOSIGNAL, nil); err != nil {
		return fmt.Errorf("%w: %w", errGuardEnded, err)
	}
	return nil
}

var errGuardEnded = errors.New("the guard has ended")

// done lets the guard end, and sees to it that it does.
func (g *guard) done() {
	_ = unix.Sendto(g.socket, []byte{saysDone}, unix.MSG_NOSIGNAL, nil)
	enough := time.NewTimer(guardEnd)
	defer enough.Stop()
	select {
	case <-g.ended:
	case <-enough.C:
		g.kill()
		<-g.ended
	}
	g.close()
}

// close without done makes the guard thaw everything and end by itself.
func (g *guard) close() {
	_ = unix.Close(g.socket)
}

// openGuarded tells the guard that the window opens, and starts another one
// in place of one that was killed meanwhile.
func (w *Window) openGuarded() error {
	if w.guard == nil {
		return nil
	}
	err := w.guard.open(w.options.Deadline)
	if errors.Is(err, errGuardEnded) {
		w.guard.close()
		if w.guard, err = w.startGuard(); err != nil {
			return fmt.Errorf("start the guard again, which had ended: %w", err)
		}
		err = w.guard.open(w.options.Deadline)
	}
	if err != nil {
		return fmt.Errorf("tell the guard that the window opens: %w", err)
	}
	return nil
}

// guardThawed tells whether the guard has begun to thaw everything: then no
// further member is frozen. A guard that was killed is missed only when we are
// killed too.
func (w *Window) guardThawed() bool {
	return w.guard != nil && w.guard.heard() == saysThawed
}

// errGuardThawed ends a window that the guard has thawed.
var errGuardThawed = errors.New("the guard thawed everything: it was told to end, or this process had been held up until after the deadline")

// guardHolding finds the process that has a journal's record lock; 0 when
// there is none. Only a guard takes it.
func guardHolding(j *journal) (int, error) {
	lock := unix.Flock_t{Type: unix.F_WRLCK}
	if err := unix.FcntlFlock(j.file.Fd(), unix.F_GETLK, &lock); err != nil {
		return 0, &os.PathError{Op: "ask who has locked", Path: j.path, Err: err}
	}
	if lock.Type == unix.F_UNLCK {
		return 0, nil
	}
	return int(lock.Pid), nil
}

// guardPatience is how long the guard of a dead window may go on recovering by
// itself: cgroups and filesystems need milliseconds, the engine may hang.
const guardPatience = 2 * time.Second

// outlast waits until no guard is at the journal any more, and ends one that
// does not end by itself. Two that recover at once do no harm, but a late one
// would thaw what the next window has frozen.
func outlast(j *journal) error {
	for end := time.Now().Add(guardPatience); ; time.Sleep(2 * time.Millisecond) {
		pid, err := guardHolding(j)
		if err != nil || pid == 0 {
			return err
		}
		if pid < 0 || time.Now().Before(end) {
			continue
		}
		handle, err := unix.PidfdOpen(pid, 0)
		if err != nil {
			continue // it has just ended
		}
		if again, err := guardHolding(j); err == nil && again == pid {
			_ = unix.PidfdSendSignal(handle, unix.SIGKILL, nil, 0)
		}
		_ = unix.Close(handle)
	}
}
