package freeze

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"
)

// note records who ended in the window.
func (w *Window) note() {
	for i, t := range w.targets {
		w.stood[w.index[i]].Gone = t.gone
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
			errs = errors.Join(errs, fmt.Errorf("%s %w: it was paused before, and somebody unpaused it", t.Member, ErrDisturbed))
		}
	}
	return errs
}

// waiting names the members that did not stand still in time, with those of
// their tasks that the kernel could not stop.
func (w *Window) waiting() []string {
	// The thaw woke every task (cgroup_freeze_task in the kernel); one that
	// hangs needs a moment, on a busy host, until it is seen to sleep again.
	asleep := time.Now().Add(100 * time.Millisecond)
	var out []string
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
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		open, end := bytes.IndexByte(stat, '('), bytes.LastIndexByte(stat, ')')
		if err != nil || open < 0 || end < open || !bytes.HasPrefix(stat[end:], []byte(") D")) {
			continue
		}
		if out = append(out, fmt.Sprintf("process %d, %s", pid, stat[open+1:end])); len(out) == 3 {
			break
		}
	}
	return out
}

// Close thaws what is still frozen, removes the journal if nothing is, and
// lets go of what Prepare opened. It may be called twice. An error means that
// somebody may still stand still; the journal stays, for Recover.
func (w *Window) Close() error {
	var errs error
	for _, t := range w.targets {
		if !t.touched {
			continue
		}
		var err error
		if t.how == ByPause {
			err = t.release()
		} else {
			err = t.write('0')
		}
		if err != nil {
			errs = errors.Join(errs, fmt.Errorf("thaw %s: %w", t.Member, err))
			continue
		}
		t.touched = false
	}
	if w.journal != nil && errs == nil {
		errs = w.journal.mark(stateThawed)
		w.fault(StepClosing)
		errs = errors.Join(errs, w.journal.remove())
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
	w.targets, w.left = nil, nil
	if errs != nil {
		return fmt.Errorf("close the window: %w", errs)
	}
	return nil
}
