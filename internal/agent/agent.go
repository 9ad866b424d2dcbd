// Package agent is each operation as one straight list of steps: find out
// what a group is, plan, prepare, stand still, snapshot, record, ship, prune,
// restore. It holds no rules of its own: what is frozen is decided in plan,
// what is kept and built upon in retain. It prints nothing and exits nowhere.
package agent

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

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
	State   string
	Run     string
	Now     func() time.Time
	Report  Report // may be nil

	// Engine connects to the Docker engine. workload.ErrNoEngine when this
	// host has none. It is called once an operation.
	Engine func(ctx context.Context) (*workload.Engine, error)
	// OnlyRepositories leaves this host's own record aside: somebody looks at a
	// repository that they named, perhaps another host's.
	OnlyRepositories bool
	// Inhibit keeps this host from shutting down until release is called. An
	// error means that nobody here can; work goes on without. May be nil.
	Inhibit func(why string) (release func() error, err error)
	// Processes are members of a group that are neither containers nor units:
	// the demo's writer on a host without an engine. May be nil.
	Processes func(group string) []freeze.Member
	// Fault is called at every step of a window by tests; nil in production.
	Fault func(step string)
	// Open opens a repository, with the identities that the caller has.
	Open func(ctx context.Context, r config.Repository, report Report) (*ship.Repository, error)
}

// Agent carries out operations. Its methods may be called from several
// goroutines and processes at once: locks below Run keep them apart.
type Agent struct {
	Options
	record  *point.Record
	records *ship.Records
}

// New checks the directories. They are made when they are missing.
func New(o Options) (*Agent, error) {
	for _, dir := range []string{o.State, o.Run} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			if errors.Is(err, os.ErrPermission) && os.Geteuid() != 0 {
				return nil, ErrNotRoot
			}
			return nil, fmt.Errorf("make %s: %w", dir, err)
		}
	}
	record, err := point.OpenRecord(filepath.Join(o.State, "points"))
	if err != nil {
		return nil, err
	}
	records, err := ship.OpenRecords(filepath.Join(o.State, "ships"))
	if err != nil {
		return nil, err
	}
	if o.Report == nil {
		o.Report = func(Event) {}
	}
	return &Agent{Options: o, record: record, records: records}, nil
}

// Event is something worth telling while an operation runs.
type Event struct {
	Kind  EventKind
	Group string // "" when it concerns no group
	Text  string // for Step and Warning
	Bytes int64  // for Progress: done so far
	Total int64  // for Progress: 0 when nobody knows
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

// points are those of the local record, oldest first, for operations that
// also look into repositories. A damaged record is a warning.
func (a *Agent) points() []point.Point {
	if a.OnlyRepositories {
		return nil
	}
	points, err := a.record.All()
	if err != nil {
		a.warn("", "%v", err)
	}
	return points
}

func (a *Agent) driver(name string) (fs.Driver, error) {
	if d, ok := a.Drivers[name]; ok {
		return d, nil
	}
	return nil, fmt.Errorf("this version of snapd has no driver for %q", name)
}
