package freeze

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"snapd/internal/proc"
)

// note writes into Stood which members ended in the window, and which ones did
// not come up again.
func (w *Window) note() {
	for i, t := range w.targets {
		at := &w.stood[w.index[i]]
		at.Gone = t.gone
		if t.stopper != nil {
			at.Unwell = t.stopper.unwell
			select {
			case <-t.stopper.done:
				at.Took = t.stopper.took
			default: // the window was given up before its turn came
			}
		}
	}
}

// checkLeft asks the engine whether those that it had paused before still are.
func (w *Window) checkLeft() error {
	var errs error
	for _, t := range w.left {
		if t.askEngine == nil {
			continue
		}
		s := t.askEngine()
		if s.err == nil && s.running && !s.paused {
			errs = errors.Join(errs, fmt.Errorf("%s %w: it was paused before, and another program unpaused it", t.Member, ErrDisturbed))
		}
	}
	return errs
}

// waiting names the members that were not frozen in time, with those of their
// tasks that the kernel could not stop.
func (w *Window) waiting() []string {
	// The thaw woke every task (cgroup_freeze_task in the kernel); one that
	// hangs needs a moment, on a busy host, until it is seen to sleep again.
	asleep := time.Now().Add(100 * time.Millisecond)
	out := w.waitingDisks()
	for _, t := range w.targets {
		if t.frozen || t.gone {
			continue
		}
		text := t.String()
		stuck := stuckTasks(t.Cgroup)
		for len(stuck) == 0 && time.Now().Before(asleep) {
			time.Sleep(5 * time.Millisecond)
			stuck = stuckTasks(t.Cgroup)
		}
		if len(stuck) > 0 {
			text += " (uninterruptible: " + strings.Join(stuck, ", ") + ")"
		}
		out = append(out, text)
	}
	return out
}

// stuckTasks describes up to three processes below a cgroup that wait in the
// kernel and cannot be frozen before that ends.
func stuckTasks(dir string) []string {
	if dir == "" {
		return nil
	}
	pids, err := pidsBelow(dir)
	if err != nil {
		return nil
	}
	var out []string
	for _, pid := range pids {
		p, err := proc.Look(pid)
		if err != nil || p.State != 'D' {
			continue
		}
		if out = append(out, fmt.Sprintf("process %d, %s", pid, p.Name)); len(out) == 3 {
			break
		}
	}
	return out
}

// Close thaws what is still frozen, removes the journal if nothing is, and
// closes what Prepare opened. It may be called twice. An error means that a
// member may still be frozen; the journal stays, for Recover, and the guard
// goes on trying.
func (w *Window) Close() error {
	errs := errors.Join(w.closeTargets(), w.closeDisks())
	if w.journal != nil && errs == nil {
		errs = w.journal.setState(stateThawed)
		w.fault(StepClosing)
		errs = errors.Join(errs, w.journal.remove())
	}
	if w.guard != nil {
		if errs == nil {
			w.guard.done()
		} else {
			w.guard.close()
		}
		w.guard = nil
	}
	if w.journal != nil {
		errs = errors.Join(errs, w.journal.close())
		w.journal = nil
	}
	for _, group := range [][]*target{w.targets, w.left} {
		for _, t := range group {
			t.close()
		}
	}
	w.targets, w.left, w.disks = nil, nil, nil
	if errs != nil {
		return fmt.Errorf("close the window: %w", errs)
	}
	return nil
}

// closeTargets tries once more with those that could not be thawed.
func (w *Window) closeTargets() error {
	var errs error
	for _, t := range w.targets {
		if !t.touched {
			continue
		}
		var err error
		switch t.how {
		case ByPause:
			err = t.release()
		case ByStop:
			if !t.start() {
				err = errors.New(t.stopper.unwell)
			}
		default:
			err = t.write('0')
		}
		if err != nil {
			errs = errors.Join(errs, fmt.Errorf("thaw %s: %w", t.Member, err))
			continue
		}
		t.touched = false
	}
	return errs
}

// closeDisks tries once more too. A filesystem that the kernel is still
// freezing keeps its descriptor and its thread, which thaws it.
func (w *Window) closeDisks() error {
	var errs error
	for _, d := range w.disks {
		if d.begun {
			select {
			case <-d.done:
			default:
				errs = errors.Join(errs, fmt.Errorf("%s is still being frozen", d))
				continue
			}
		}
		if d.thawErr != nil && !errors.Is(d.thawErr, ErrDisturbed) {
			if _, err := thawFilesystem(d.fd); err != nil {
				errs = errors.Join(errs, fmt.Errorf("thaw %s: %w", d, err))
			}
		}
		d.close()
	}
	return errs
}
