package freeze

import (
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// poll is how long the window sleeps before it looks again whether a member
// is frozen. The kernel limits notifications about it to one in 10 ms.
const poll = 50 * time.Microsecond

// Run freezes the members, calls take, and thaws the members in reverse order,
// whatever take did. It can be called once.
//
// take runs on a thread with real-time priority; it must do nothing but take
// the snapshots. Run returns only when take has returned, but the members do
// not wait for that: at the deadline they are thawed, and the error wraps an
// *Overrun beside what take said. Everything taken is worthless when the error
// is not nil, except after an *Overrun that says Taken: then what lies in one
// domain is still of one instant. When the thaw began in time but itself took
// long, that is no error: Timings say so.
//
// Containers that were stopped and did not come up again as they should are
// named by Stood, and are no error of Run.
//
// With nothing to freeze, take is called and nothing else.
func (w *Window) Run(take func() error) (Timings, error) {
	if w.ran {
		return Timings{}, errors.New("run the window: it has been run before")
	}
	w.ran = true
	if len(w.targets) == 0 && len(w.disks) == 0 {
		start := time.Now()
		err := take()
		return Timings{Snapshot: time.Since(start)}, errors.Join(err, w.checkLeft())
	}
	p := passage{window: w, finished: make(chan struct{})}
	go p.run(take)
	<-p.finished
	if p.panicked != nil {
		panic(p.panicked)
	}
	w.note()
	return p.timings, p.result()
}

// passage is one way through the window on a thread of its own.
type passage struct {
	window   *Window
	timings  Timings
	err      error // of freezing or of take
	overrun  *Overrun
	panicked any
	finished chan struct{}
}

func (p *passage) run(take func() error) {
	defer close(p.finished)
	runtime.LockOSThread()
	lower := raise(windowPriority)
	defer func() {
		if lower() {
			runtime.UnlockOSThread()
		} // otherwise the thread ends with this goroutine
	}()
	w := p.window
	alarm, err := w.arm()
	if err != nil {
		p.err = err
		return
	}
	defer alarm.stop()
	w.serveDisks()
	if p.err = w.begin(alarm); p.err != nil {
		w.thaw(false) // nothing is frozen yet, but the filesystems' threads wait
		return
	}
	p.through(take)
	w.fault(StepThawed)
	if w.thawErr == nil && !w.touched() {
		p.err = errors.Join(p.err, w.journal.setState(stateThawed))
	}
}

// begin opens the window: from here on a member may be frozen.
func (w *Window) begin(alarm *alarm) error {
	if err := w.journal.setState(stateOpen); err != nil {
		return err
	}
	w.fault(StepOpen)
	if err := w.openGuarded(); err != nil {
		return err
	}
	return alarm.start(w.options.Deadline)
}

// serveDisks returns when the threads of the filesystems wait.
func (w *Window) serveDisks() {
	var ready sync.WaitGroup
	ready.Add(len(w.disks))
	for _, d := range w.disks {
		go d.serve(w, &ready)
	}
	ready.Wait()
}

// touched tells whether a member was told to freeze and has not been thawed.
// After a thaw that went well, that can only be a container that cannot be
// started again.
func (w *Window) touched() bool {
	return slices.ContainsFunc(w.targets, func(t *target) bool { return t.touched })
}

// through is the window itself: from here to its end nothing logs, and
// nothing allocates unless it fails.
func (p *passage) through(take func() error) {
	w := p.window
	start := time.Now()
	var frozen, taken time.Time
	defer func() {
		p.panicked = recover()
		if taken.IsZero() {
			taken = time.Now()
		}
		if frozen.IsZero() {
			frozen = taken
		}
		w.thaw(false)
		p.timings = Timings{
			Window: w.thawedAt.Sub(start), Freeze: frozen.Sub(start),
			Snapshot: taken.Sub(frozen), Thaw: max(0, w.thawedAt.Sub(taken)),
		}
		if w.expired {
			p.overrun = &Overrun{Asked: w.options.Deadline, Took: p.timings.Window}
		}
	}()
	if p.err = w.freeze(); p.err != nil {
		return
	}
	frozen = time.Now()
	w.fault(StepFrozen)
	p.err = errNoReturn
	p.err = take()
	taken = time.Now()
	w.fault(StepTaken)
	if p.err == nil {
		p.err = w.check()
	}
}

// result joins what went wrong, and finds out which members kept the window
// waiting.
func (p *passage) result() error {
	w := p.window
	called := !errors.Is(p.err, errExpired)
	if !called { // the overrun says it better
		p.err = nil
	}
	err := errors.Join(p.err, w.thawErr, w.checkLeft())
	if p.overrun == nil {
		err = errors.Join(err, w.badThaw)
	}
	if p.overrun != nil {
		p.overrun.Waiting, p.overrun.Taken = w.waiting(), called && err == nil
		err = errors.Join(p.overrun, err)
	}
	if err != nil {
		return fmt.Errorf("window: %w", err)
	}
	return nil
}

// errNoReturn stands while take runs, for the case that it ends its goroutine.
var errNoReturn = errors.New("taking the snapshots did not return")

// errExpired ends the freezing when the thaw has begun meanwhile.
var errExpired = errors.New("the deadline passed while members were being frozen")

// freeze tells all members to freeze and waits until they are frozen. Those
// that the engine stops or pauses take longest and so come first. The
// filesystems come last: a task that waits for a frozen filesystem cannot be
// frozen itself.
func (w *Window) freeze() error {
	if err := w.stopAll(); err != nil {
		return err
	}
	if err := w.pauseAll(); err != nil {
		return err
	}
	for _, t := range w.targets {
		if t.how != ByCgroup {
			continue
		}
		if err := w.touch(t); err != nil {
			return err
		}
		w.fault(StepFreezing)
	}
	for _, t := range w.targets {
		if t.how != ByCgroup {
			continue
		}
		if err := w.await(t); err != nil {
			return err
		}
	}
	if w.guardThawed() {
		return errGuardThawed
	}
	return w.freezeDisks()
}

// touch writes 1, unless the thaw has begun.
func (w *Window) touch(t *target) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.thawing {
		return errExpired
	}
	if w.guardThawed() {
		return errGuardThawed
	}
	t.touched = true
	if err := t.write('1'); err != nil {
		return fmt.Errorf("freeze %s: %w", t.Member, err)
	}
	return nil
}

// await looks at cgroup.events until the member is frozen or the deadline has
// thawed it.
func (w *Window) await(t *target) error {
	pause := unix.NsecToTimespec(int64(poll))
	for {
		still, err := t.look()
		if err != nil {
			return fmt.Errorf("read whether %s is frozen: %w", t.Member, err)
		}
		if still {
			t.frozen = true
			return nil
		}
		select {
		case <-w.released:
			return errExpired
		default:
		}
		_ = unix.Nanosleep(&pause, nil) // woken early by a signal, it only looks sooner
	}
}

func (w *Window) pauseAll() error {
	w.mu.Lock()
	for _, t := range w.targets {
		if t.how == ByPause && !w.thawing {
			t.touched = true
			t.engine.start()
		}
	}
	w.mu.Unlock()
	for _, t := range w.targets {
		if t.how != ByPause {
			continue
		}
		select {
		case <-w.released:
			return errExpired
		case <-t.engine.done:
		}
		if t.engine.err != nil {
			if s := t.engine.state(); s.err != nil || s.running {
				return fmt.Errorf("pause %s: %w", t.Member, t.engine.err)
			}
			t.gone = true // it has ended by itself, and needs no pause
			continue
		}
		t.frozen = true
		w.fault(StepFreezing)
	}
	return nil
}

// check makes sure that every member was frozen until now. Another program
// that froze or thawed the same cgroup, or started what we stopped, would go
// unnoticed otherwise.
func (w *Window) check() error {
	select {
	case <-w.released: // at the deadline it is our own thaw
		return nil
	default:
	}
	if w.guardThawed() {
		return errGuardThawed
	}
	if err := w.checkStopped(); err != nil {
		return err
	}
	for _, group := range [][]*target{w.targets, w.left} {
		for _, t := range group {
			if t.events < 0 || t.how == ByPause || t.how == ByStop {
				continue
			}
			still, err := w.isFrozen(t)
			if err == nil && still {
				continue
			}
			// At the deadline it is our own thaw.
			select {
			case <-w.released:
				return nil
			default:
			}
			return errors.Join(fmt.Errorf("%s %w: another program thawed it", t.Member, ErrDisturbed), err)
		}
	}
	return nil
}

// isFrozen tells whether a member is frozen. A process that joins a frozen
// cgroup, such as a health check that the engine was just starting, makes the
// kernel say for a moment that not all in it are frozen. The kernel stops that
// process as it joins, so waiting for it is enough.
func (w *Window) isFrozen(t *target) (bool, error) {
	still, err := t.look()
	if err != nil || still {
		return still, err
	}
	if on, err := t.switchedOn(); err != nil || !on {
		return false, err
	}
	err = w.await(t)
	return err == nil, err
}

// checkStopped asks the engine whether those that were stopped still are.
func (w *Window) checkStopped() error {
	var stopped []*target
	for _, t := range w.targets {
		if t.how == ByStop && t.frozen {
			stopped = append(stopped, t)
		}
	}
	errs := make([]error, len(w.targets))
	forEach(stopped, func(t *target) {
		if s := t.stopper.state(); s.err != nil || s.running {
			errs[t.index] = errors.Join(fmt.Errorf("%s %w: another program started it, or the engine does not say", t.Member, ErrDisturbed), s.err)
		}
	})
	return errors.Join(errs...)
}

// forEach calls do for all at once and waits.
func forEach(targets []*target, do func(*target)) {
	var all sync.WaitGroup
	for _, t := range targets {
		all.Go(func() { do(t) })
	}
	all.Wait()
}
