package freeze

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"
)

// thaw thaws everything, once; a second caller waits until that is done.
// Filesystems come first: a member that waits for one cannot go on. Cgroups
// are thawed in reverse order and at once; the engine is waited for.
func (w *Window) thaw(byAlarm bool) {
	w.mu.Lock()
	if w.thawing {
		w.mu.Unlock()
		<-w.thawed
		return
	}
	w.thawing, w.expired = true, byAlarm
	close(w.released) // the filesystems' threads thaw
	w.mu.Unlock()
	inTime := w.awaitDisksThawed(diskPatience)
	err := errors.Join(w.thawCgroups(), w.thawEngine())
	w.startAll()
	if !inTime {
		w.awaitDisksThawed(diskLimit)
	}
	stuck, disturbed := w.diskFaults()
	w.thawErr, w.badThaw = errors.Join(stuck, err), disturbed
	w.thawedAt = time.Now()
	close(w.thawed)
}

func (w *Window) thawCgroups() error {
	var errs error
	for _, t := range slices.Backward(w.targets) {
		if t.how != ByCgroup || !t.touched {
			continue
		}
		if err := t.write('0'); err != nil {
			errs = errors.Join(errs, fmt.Errorf("thaw %s: %w", t.Member, err))
			continue
		}
		t.touched = false
		w.fault(StepThawing)
	}
	return errs
}

func (w *Window) thawEngine() error {
	var all sync.WaitGroup
	errs := make([]error, len(w.targets))
	for i, t := range w.targets {
		if t.how != ByPause || !t.touched {
			continue
		}
		all.Go(func() {
			if errs[i] = t.release(); errs[i] == nil {
				t.touched = false
				w.fault(StepThawing)
			}
		})
	}
	all.Wait()
	return errors.Join(errs...)
}
