// Package hold runs what belongs to a restore point inside containers: hooks
// before and after it, a checkpoint, and commands that keep an application's
// lock for as long as the window is open. It freezes nothing, and knows no
// engine: its caller gives it a Runner.
package hold

import (
	"context"
	"errors"
	"io"
	"slices"
	"strings"
	"sync"
	"time"

	"snapd/internal/quote"
)

// Target is a container that runs, and the user as which commands run in it.
type Target struct {
	ID, Name string
	User     string // "" means the user of the container
}

// Command is something to run in a container.
type Command struct {
	Target
	Args           []string
	Mark           string    // by which its processes are found when this one has died; "" for none
	Stdout, Stderr io.Writer // do not block
}

// Runner starts commands. Start returns within a bounded time; ctx bounds the
// start, not the command. A command that cannot be started ends with a status
// other than 0, or Start fails.
type Runner interface {
	Start(ctx context.Context, c Command) (Session, error)
}

// Session is a running command with its standard input open. All calls but
// Wait return within a bounded time, also when the engine hangs, and may be
// made twice and from several goroutines.
type Session interface {
	io.Writer // to its standard input
	CloseStdin() error
	// Started fails when the command could not be started or has ended: what
	// was printed until then may be the engine's words.
	Started(ctx context.Context) error
	// Wait returns the exit status once the command has ended and its output
	// was read. An error means that the status is not known.
	Wait(ctx context.Context) (int, error)
	// Kill ends it by force.
	Kill() error
	// Close closes the connection to it, whether it has ended or not.
	Close() error
}

// Lock is one lock to be held.
type Lock struct {
	Target
	By   string   // for users: "mariadb" or "command"
	Args []string // the command; nil for those built in
}

// Options of Acquire.
type Options struct {
	Runner  Runner
	Timeout time.Duration     // hold-timeout: for getting all locks, and then for keeping each
	Mark    string            // of the commands, as in Command
	Fault   func(step string) // called at every step by tests; nil in production
}

// The steps at which Options.Fault is called.
const (
	StepConnected = "hold-connected" // the sessions of those built in stand; no lock was asked for
	StepAsking    = "hold-asking"    // one more lock was asked for
	StepHeld      = "hold-held"      // all are held
	StepReleasing = "hold-releasing" // the window is over; no lock was told yet
	StepReleased  = "hold-released"  // all are released
)

// Steps are all of them, in order.
func Steps() []string {
	return []string{StepConnected, StepAsking, StepHeld, StepReleasing, StepReleased}
}

func (o Options) fault(step string) {
	if o.Fault != nil {
		o.Fault(step)
	}
}

// ErrNotTaken is wrapped when a lock could not be had.
var ErrNotTaken = errors.New("the lock was not taken")

// Lost says that a lock was not held until Release: what was snapshotted
// meanwhile has not been agreed to by that application.
type Lost struct{ Who, Why string }

func (l *Lost) Error() string { return "the lock of " + l.Who + " was lost in the window: " + l.Why }

// Held are locks that are being held.
type Held struct {
	keepers  []*keeper
	options  Options
	began    time.Time
	complete time.Time // when all were held

	once     sync.Once
	released time.Time
	err      error
}

// Acquire takes all locks at once, and returns when each was acknowledged.
// When one cannot be had within the time-out, those that were are released,
// and the error says which and why. Each lock is released, and its session
// ended, when it was held for as long as the time-out, whatever the caller
// does. Cancelling ctx gives up waiting; it releases nothing that is held.
//
// Sessions of applications that are built in are opened before any lock is
// asked for, since that takes most of the time.
func Acquire(ctx context.Context, locks []Lock, o Options) (*Held, error) {
	h := &Held{options: o, began: time.Now()}
	for _, l := range locks {
		h.keepers = append(h.keepers, newKeeper(l, o))
	}
	ctx, cancel := context.WithTimeout(ctx, o.Timeout)
	defer cancel()
	err := h.each(func(k *keeper) error { return k.connect(ctx) })
	if err == nil && len(locks) > 0 {
		o.fault(StepConnected)
		err = h.each(func(k *keeper) error { return k.acquire(ctx) })
	}
	if err != nil {
		_ = h.Release(ctx) // that some lock was lost is no news now
		return nil, err
	}
	h.complete = time.Now()
	if len(locks) > 0 {
		o.fault(StepHeld)
	}
	return h, nil
}

// each calls do for all keepers at once and joins the errors.
func (h *Held) each(do func(*keeper) error) error {
	errs := make([]error, len(h.keepers))
	var all sync.WaitGroup
	for i, k := range h.keepers {
		all.Go(func() { errs[i] = do(k) })
	}
	all.Wait()
	return errors.Join(errs...)
}

// Release releases all locks, waits until they are gone, and kills what does
// not end by itself. The error joins one *Lost for each lock of which it is not
// certain that it was held until now. A second call says the same again.
// Cancelling ctx keeps nothing from being released.
func (h *Held) Release(ctx context.Context) error {
	h.once.Do(func() {
		if len(h.keepers) > 0 {
			h.options.fault(StepReleasing)
		}
		h.err = h.each(func(k *keeper) error { return k.release(ctx) })
		for _, k := range h.keepers {
			if k.gone.After(h.released) {
				h.released = k.gone
			}
		}
		if len(h.keepers) > 0 {
			h.options.fault(StepReleased)
		}
	})
	return h.err
}

// Held is how long locks were held: from when the first one that was got was
// asked for until the last one was released. It is 0 without locks, and known
// after Release.
func (h *Held) Held() time.Duration {
	var first time.Time
	for _, k := range h.keepers {
		if first.IsZero() || k.asked.Before(first) {
			first = k.asked
		}
	}
	return h.released.Sub(first)
}

// Took is how long it took to have all locks, with opening their sessions.
func (h *Held) Took() time.Duration {
	if len(h.keepers) == 0 {
		return 0
	}
	return h.complete.Sub(h.began)
}

// One is how one lock was held, for the restore point.
type One struct {
	Lock
	Said  string        // the line by which a command acknowledged
	Tries int           // how often it was asked for
	Held  time.Duration // known after Release
}

// All says how each lock was held, in the order given to Acquire.
func (h *Held) All() []One {
	var out []One
	for _, k := range h.keepers {
		one := One{Lock: k.lock, Said: k.said, Tries: k.tries}
		if !k.gone.IsZero() && !k.asked.IsZero() {
			one.Held = k.gone.Sub(k.asked)
		}
		out = append(out, one)
	}
	return out
}

// lastWords cuts what a program printed down to what fits into an error.
func lastWords(text string) string {
	lines := slices.DeleteFunc(strings.Split(strings.TrimSpace(text), "\n"), func(l string) bool { return strings.Trim(l, "- \t\r") == "" })
	if len(lines) > 3 {
		lines = lines[len(lines)-3:]
	}
	s := strings.Join(lines, "; ")
	if s == "" {
		return "it printed nothing"
	}
	return quote.Said(s)
}
