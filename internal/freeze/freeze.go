// Package freeze is the window: it freezes members and filesystems, lets the
// caller take snapshots, and thaws them again, whatever happens. It writes down
// what it freezes before it does so. The next call can then recover what a
// killed process left frozen. A second process beside it, the guard, does the
// same at once.
//
// It does not decide which members are frozen (that is plan's) nor know Docker
// (that is workload's, which implements Engine). DESIGN.md beside this file has
// the invariants and the table of crashes.
package freeze

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"
)

// Kinds of members.
const (
	Container = "container"
	Unit      = "unit"
	Process   = "process"    // in a cgroup of its own, such as the demo's writer
	Disk      = "filesystem" // in what Stood and Recover say; its Name is where it is mounted
)

// Member is a container, a unit or a process that can be frozen.
type Member struct {
	Kind   string // Container, Unit or Process
	ID     string // container id, unit name
	Name   string // for users
	Cgroup string // absolute directory in the cgroup v2 tree; "" when there is none: then Engine.Pause serves
	Pid    int    // its first process; 0 when not known
	Pause  bool   // ask the engine although there is a cgroup
	Stop   bool   // the engine shuts it down, and starts it again afterwards
	Rank   int    // of those to stop: lower ones first, equal ones at once; started again in reverse
}

func (m Member) String() string { return m.Kind + " " + m.Name }

// How says in which way a member was frozen.
type How string

// The ways.
const (
	ByCgroup   How = "cgroup"      // cgroup.freeze was written
	ByPause    How = "pause"       // the engine paused it
	ByStop     How = "stop"        // the engine shut it down and started it again
	ByFifreeze How = "fifreeze"    // a filesystem: the kernel froze it
	LeftAlone  How = "left alone"  // another program had frozen or paused it before, and it stays so
	NotRunning How = "not running" // nothing to freeze, and nothing is started afterwards
)

// Stood says how one member was frozen in the window.
type Stood struct {
	Member
	How  How
	Gone bool // it ended before or in the window
	// Unwell says, of one that was stopped, why it is not up again as it
	// should be. The snapshots are as good as without that.
	Unwell string
	// Took is how long one that was stopped took to end.
	Took time.Duration
}

// Engine pauses containers where there is no cgroup v2 tree, stops and starts
// them where that is wanted, and knows which ones another program has paused.
// Every call returns within a bounded time also when the engine hangs; a call
// that was cancelled or timed out may take effect later. All may be called
// from several goroutines at once.
type Engine interface {
	// Pause freezes a running container. Pausing twice is an error.
	Pause(ctx context.Context, id string) error
	// Unpause thaws it again. Doing so to one that is not paused is an error.
	Unpause(ctx context.Context, id string) error
	// State tells whether it runs and whether the engine has it paused (a
	// paused container runs). One that does not exist does not run, and is
	// no error.
	State(ctx context.Context, id string) (running, paused bool, err error)
	// Stop ends a container as its own settings say, signal and patience, and
	// returns when it has ended. One that does not run is no error.
	Stop(ctx context.Context, id string) error
	// Start starts it again. One that runs, or exists no more, is no error.
	Start(ctx context.Context, id string) error
	// Health is what its health check says: starting, healthy or unhealthy;
	// "" when it has none.
	Health(ctx context.Context, id string) (string, error)
}

// Connect reaches the engine that Options.EngineHost names.
type Connect func(ctx context.Context, host string) (Engine, error)

// Options of a window.
type Options struct {
	Dir      string            // of the journals, on a tmpfs: /run/snapd-agent
	Deadline time.Duration     // max-window: from the first member frozen to the beginning of the thaw
	Engine   Engine            // nil when there is none
	Fault    func(step string) // called at every step by tests; nil in production

	// Filesystems are frozen after the members, and thawed before them.
	Filesystems []Filesystem
	// Needed are paths that snapd, or a program that it runs, writes to in the
	// window: no filesystem that holds one is frozen. The journals' directory,
	// the root, the logs and /etc are needed in any case.
	Needed []string

	// Guard starts a second process that thaws when this one cannot. The
	// program must ask IsGuard at its very beginning.
	Guard bool
	// EngineHost is where the guard reaches the engine, for those members that
	// only the engine can thaw.
	EngineHost string

	// Wait is how long a container that was stopped may take until it is
	// healthy again. The containers that depend on it wait so long. 0 means
	// DefaultWait.
	Wait time.Duration
}

// DefaultWait is how long a started container may take to become healthy.
const DefaultWait = time.Minute

// The steps at which Options.Fault is called.
const (
	StepJournal    = "journal"     // the journal lies there, nothing is open
	StepGuarded    = "guarded"     // the guard is ready; only with Options.Guard
	StepOpen       = "open"        // the journal says that members may be frozen; none is
	StepFreezing   = "freezing"    // one more member was told to freeze
	StepDiskFrozen = "disk-frozen" // one more filesystem is frozen
	StepFrozen     = "frozen"      // all members and filesystems are frozen
	StepTaken      = "taken"       // the snapshots are taken
	StepDiskThawed = "disk-thawed" // one more filesystem was thawed
	StepThawing    = "thawing"     // one more member was thawed
	StepThawed     = "thawed"      // all are thawed; the journal does not say so yet
	StepClosing    = "closing"     // the journal says so; it is about to be removed
)

// Steps are all of them that a window with members comes to, in order.
func Steps() []string {
	return []string{StepJournal, StepOpen, StepFreezing, StepFrozen, StepTaken, StepThawing, StepThawed, StepClosing}
}

// AllSteps are those of a window with guard, members and filesystems.
func AllSteps() []string {
	return []string{
		StepJournal, StepGuarded, StepOpen, StepFreezing, StepDiskFrozen, StepFrozen, StepTaken,
		StepDiskThawed, StepThawing, StepThawed, StepClosing,
	}
}

// Timings of a window. All are zero but Snapshot when nothing was frozen.
type Timings struct {
	Window   time.Duration // from before the first member is frozen to after the last one is thawed
	Freeze   time.Duration // until the last one was frozen
	Snapshot time.Duration // take
	Thaw     time.Duration // until the last one was thawed
}

var (
	// ErrNeverFreeze is wrapped when snapd itself needs what is in a member.
	ErrNeverFreeze = errors.New("must never be frozen")
	// ErrCannotFreeze is wrapped when a filesystem is not one that can be frozen.
	ErrCannotFreeze = errors.New("cannot be frozen")
	// ErrChanged is wrapped when a member is not what it was when it was
	// looked up, for example restarted since. Looking it up again helps.
	ErrChanged = errors.New("changed since it was looked up")
	// ErrDisturbed is wrapped when another program thawed a member in the
	// window, so that what was taken is not of one instant.
	ErrDisturbed = errors.New("was not frozen all the time")
)

// Overrun says that the members were thawed before the snapshots were taken,
// because the window had reached max-window.
type Overrun struct {
	Asked   time.Duration // max-window
	Took    time.Duration // first member frozen to last one thawed
	Waiting []string      // members that were not frozen when time was up, and what they waited for
	Taken   bool          // take succeeded all the same, and nothing else went wrong: each domain is of one instant
}

func (o *Overrun) Error() string {
	s := fmt.Sprintf("the window was given up after %v (max-window = %v)", o.Took.Round(time.Microsecond), o.Asked)
	if len(o.Waiting) > 0 {
		s += ": not frozen by then: " + strings.Join(o.Waiting, "; ")
	}
	return s
}
