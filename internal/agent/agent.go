// Package agent is each operation as one straight list of steps: find out
// what a group is, plan, prepare, freeze, snapshot, thaw, record, ship, prune,
// restore. It holds no rules of its own: what is frozen is decided in plan,
// what is kept and built upon in retain. It prints nothing and exits nowhere.
package agent

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"snapd/internal/advice"
	"snapd/internal/config"
	"snapd/internal/freeze"
	"snapd/internal/fs"
	"snapd/internal/point"
	"snapd/internal/ship"
	"snapd/internal/workload"
)

// Where the agent keeps what it must remember.
const (
	DefaultState = "/var/lib/snapd-agent" // points and progress of ships; may be lost
	DefaultRun   = "/run/snapd-agent"     // journals and locks, on tmpfs
)

// Options are what an Agent works with. All but Open and Engine have to be set.
type Options struct {
	Config  *config.Config
	Drivers map[string]fs.Driver // by fs.Btrfs, …
	LeftOut string               // which storages Drivers lacks, and which setting says so; "" when none
	State   string
	Run     string
	Now     func() time.Time
	Report  Report // may be nil
	Machine string // tells this host from all others; "" means what /etc/machine-id says

	// Engine connects to the Docker engine. workload.ErrNoEngine when this
	// host has none. It is called once or twice an operation.
	Engine func(ctx context.Context) (*workload.Engine, error)
	// OnlyRepositories leaves this host's own record aside: the user named the
	// repository to look at, and it may be another host's.
	OnlyRepositories bool
	// Inhibit keeps this host from shutting down until release is called. An
	// error means that no program here can; work goes on without. May be nil.
	Inhibit func(why string) (release func() error, err error)
	// Units looks systemd units up, in the given order. May be nil.
	Units func(ctx context.Context, names []string) ([]Unit, error)
	// Looks is how paths are looked at, one for the whole process; nil means that
	// every look at a group has its own.
	Looks *workload.Looks
	// Guard has a second process watch over every window; the program asks
	// freeze.IsGuard at its very beginning.
	Guard bool
	// Looked is told the schedules of the groups each time an operation has
	// looked which there are. It must not take long. May be nil.
	Looked func(all []Schedule)
	// Turn waits until it is this call's turn to take restore points; done ends
	// it. May be nil.
	Turn func(ctx context.Context) (done func(), err error)
	// Elapses says when a systemd calendar expression elapses the next n times
	// after a moment. May be nil, as on a host without systemd.
	Elapses func(ctx context.Context, calendar string, after time.Time, n int) ([]time.Time, error)
	// TimerTrouble says what keeps the timer of a group from running it, "" when
	// nothing is known that does. May be nil.
	TimerTrouble func(ctx context.Context, group string) string
	// Taken is called by Do when all restore points that it was to take are taken,
	// and nothing was wrong with them: cancelled from then on, it says what is left.
	// May be nil.
	Taken func()
	// Processes are members of a group that are neither containers nor units:
	// the demo's writer on a host without an engine. May be nil.
	Processes func(group string) []freeze.Member
	// Fault is called at every step of a window by tests; nil in production.
	Fault func(step string)
	// Open opens a repository, with the identities that the caller has.
	Open Opener
	// OpenHidden is Open for an operation that only reads: the repository also
	// reads what was deleted from a bucket that keeps versions. May be nil.
	OpenHidden Opener
	// Site is where a repository lies, for a repair of its description. May be nil.
	Site Site
}

// Opener opens a repository.
type Opener func(ctx context.Context, r config.Repository, report Report) (*ship.Repository, error)

// Agent carries out operations. Its methods may be called from several
// goroutines and processes at once: locks below Run keep them apart.
type Agent struct {
	Options
	record  *point.Record
	taking  *point.Record // points whose snapshots are being taken: a crash leaves one here
	records *ship.Records
	looks   healthLooks
	asking  sync.Map // *interruptedLook by the name of a driver that has yet to say which restores were interrupted
}

// New checks the directories. They are made when they are missing.
func New(o Options) (*Agent, error) {
	if o.Report == nil {
		o.Report = func(Event) {}
	}
	a := &Agent{Options: o}
	err := a.open()
	if errors.Is(err, os.ErrPermission) && os.Geteuid() != 0 {
		return nil, ErrNotRoot
	}
	return a, err
}

func (a *Agent) open() (err error) {
	for _, dir := range []string{a.State, a.Run} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return fmt.Errorf("make %s: %w", dir, err)
		}
	}
	if a.record, err = point.OpenRecord(filepath.Join(a.State, "points")); err != nil {
		return err
	}
	if a.taking, err = point.OpenRecord(filepath.Join(a.State, "taking")); err != nil {
		return err
	}
	a.records, err = ship.OpenRecords(filepath.Join(a.State, "ships"))
	return err
}

// Event is something worth telling while an operation runs.
type Event struct {
	Kind  EventKind
	Group string   // "" when it concerns no group
	Text  string   // for Step and Warning
	Do    string   // for Warning: what to do about it, as of advice.Of; "" when no one said so
	Names []string // for Warning: the ErrorNames of its cause, for advice that only the caller knows
	Bytes int64    // for Progress: done so far
	Total int64    // for Progress: 0 when it is not known
}

// EventKind says what an Event is.
type EventKind int

// The kinds of events.
const (
	Step     EventKind = iota // something was begun or done
	Warning                   // something a person should know
	Progress                  // how far the current step is
)

// Report receives events. It is called from several goroutines at once.
type Report func(Event)

func (a *Agent) step(group, format string, args ...any) {
	a.Report(Event{Kind: Step, Group: group, Text: fmt.Sprintf(format, args...)})
}

func (a *Agent) warn(group, format string, args ...any) {
	a.Report(Event{Kind: Warning, Group: group, Text: fmt.Sprintf(format, args...)})
}

// warnOfError warns of an error with its advice.
func (a *Agent) warnOfError(group string, err error) { a.Report(WarningOf(group, err)) }

// WarningOf is the event that says an error that keeps an operation from
// nothing.
func WarningOf(group string, err error) Event {
	return Event{Kind: Warning, Group: group, Text: err.Error(), Do: advice.Of(err), Names: ErrorNames(err)}
}

// inOneLine is an error with its advice for the warnings of a point, which are
// one text each.
func inOneLine(err error) string {
	if do := advice.Of(err); do != "" {
		return err.Error() + "; " + do
	}
	return err.Error()
}

// points are those of the local record, oldest first, for operations that
// also look into repositories. A damaged record is a warning.
func (a *Agent) points() []point.Point {
	if a.OnlyRepositories {
		return nil
	}
	points, err := a.record.All()
	if err != nil {
		a.warnOfError("", err)
	}
	return points
}

// sweepStorage removes what killed processes left half made: restores that
// were being built. Those of living processes stay.
func (a *Agent) sweepStorage(ctx context.Context) {
	for _, d := range a.Drivers {
		s, ok := d.(fs.Sweeper)
		if !ok {
			continue
		}
		removed, err := s.Sweep(ctx)
		for _, r := range removed {
			a.warn("", "removed %s, which a killed snapd had left", r)
		}
		if err != nil {
			a.warnOfError("", err) // what stays takes room and hinders no operation
		}
	}
	a.tendStorage(ctx)
}

// tendStorage has drivers look after what snapshots endanger while they live,
// and passes on what they have to tell: a snapshot had to make room.
func (a *Agent) tendStorage(ctx context.Context) {
	for _, d := range a.Drivers {
		t, ok := d.(fs.Tender)
		if !ok {
			continue
		}
		told, err := t.Tend(ctx)
		for _, text := range told {
			a.warn("", "%s", text)
		}
		if err != nil {
			a.warnOfError("", err)
		}
	}
}

// Watch is what a long-running caller does every few seconds between and during
// operations: it looks after what snapshots endanger while they live. told is
// new since its last call on this Agent. live says that there is something to
// be watched on.
func (a *Agent) Watch(ctx context.Context) (told []string, live bool, err error) {
	for _, d := range a.Drivers {
		w, ok := d.(fs.Tender)
		if !ok {
			continue
		}
		t, l, e := w.Watch(ctx)
		told, live, err = append(told, t...), live || l, errors.Join(err, e)
	}
	return told, live, err
}

// Live tells whether there may be something that Watch has to look after. It
// asks no storage, so that it costs nothing and needs no rights.
func (a *Agent) Live() bool {
	for _, d := range a.Drivers {
		if l, ok := d.(fs.Tender); ok && l.Live() {
			return true
		}
	}
	return false
}

func (a *Agent) driver(name string) (fs.Driver, error) {
	if d, ok := a.Drivers[name]; ok {
		return d, nil
	}
	if a.LeftOut != "" {
		return nil, fmt.Errorf("%s is asked for, and %s", name, a.LeftOut)
	}
	return nil, fmt.Errorf("this version of snapd has no driver for %q", name)
}
