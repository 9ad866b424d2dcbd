// Package freeze is the window: it makes members stand still, lets somebody
// take snapshots, and lets them go again, whatever happens. What it froze it
// wrote down before, so that the next one can mend what a death left behind.
//
// It does not decide who is frozen (that is plan's) nor know Docker (that is
// workload's, which implements Engine). DESIGN.md beside this file has the
// invariants and the table of crashes.
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
	Process   = "process" // in a cgroup of its own, such as the demo's writer
)

// Member is somebody who can stand still.
type Member struct {
	Kind   string // Container, Unit or Process
	ID     string // container id, unit name
	Name   string // for people
	Cgroup string // absolute directory in the cgroup v2 tree; "" when there is none: then Engine.Pause serves
	Pid    int    // its first process; 0 when not known
	Pause  bool   // ask the engine although there is a cgroup
}

func (m Member) String() string { return m.Kind + " " + m.Name }

// How a member came to stand still.
type How string

// The ways.
const (
	ByCgroup   How = "cgroup"      // cgroup.freeze was written
	ByPause    How = "pause"       // the engine paused it
	LeftAlone  How = "left alone"  // somebody else had frozen or paused it before, and it stays so
	NotRunning How = "not running" // nothing to freeze, and nothing is started afterwards
)

// Stood says how one member stood in the window.
type Stood struct {
	Member
	How  How
	Gone bool // it ended before or in the window
}

// Engine pauses containers where there is no cgroup v2 tree, and knows which
// ones somebody else has paused. Every call returns within a bounded time
// also when the engine hangs; a call that was cancelled or timed out may take
// effect later. All may be called from several goroutines at once.
type Engine interface {
	// Pause makes a running container stand still. Pausing twice is an error.
	Pause(ctx context.Context, id string) error
	// Unpause lets it go again. Doing so to one that is not paused is an error.
	Unpause(ctx context.Context, id string) error
	// State tells whether it runs and whether the engine has it paused (a
	// paused container runs). One that does not exist does not run, and is
	// no error.
	State(ctx context.Context, id string) (running, paused bool, err error)
}

// Options of a window.
type Options struct {
	Dir      string            // of the journals, on a tmpfs: /run/snapd-agent
	Deadline time.Duration     // max-window: from the first member frozen to the beginning of the thaw
	Engine   Engine            // nil when there is none
	Fault    func(step string) // called at every step by tests; nil in production
}

// The steps at which Options.Fault is called.
const (
	StepJournal  = "journal"  // the journal lies there, nothing is open
	StepOpen     = "open"     // the journal says that members may be frozen; none is
	StepFreezing = "freezing" // one more member was told to stand still
	StepFrozen   = "frozen"   // all of them do
	StepTaken    = "taken"    // the snapshots are taken
	StepThawing  = "thawing"  // one more member was let go
	StepThawed   = "thawed"   // all of them are; the journal does not know yet
	StepClosing  = "closing"  // the journal says so; it is about to be removed
)

// Steps are all of them, in order.
func Steps() []string {
	return []string{StepJournal, StepOpen, StepFreezing, StepFrozen, StepTaken, StepThawing, StepThawed, StepClosing}
}

// Timings of a window. All are zero but Snapshot when nobody was frozen.
type Timings struct {
	Window   time.Duration // from before the first member is frozen to after the last one is thawed
	Freeze   time.Duration // until the last one stood still
	Snapshot time.Duration // take
	Thaw     time.Duration // until the last one was let go
}

var (
	// ErrNeverFreeze is wrapped when a member holds what snapd itself needs.
	ErrNeverFreeze = errors.New("must never be frozen")
	// ErrChanged is wrapped when a member is not what it was when it was
	// looked up, for example restarted since. Looking it up again helps.
	ErrChanged = errors.New("changed since it was looked up")
	// ErrDisturbed is wrapped when somebody else thawed a member in the
	// window, so that what was taken is not of one instant.
	ErrDisturbed = errors.New("did not stand still all the time")
)

// Overrun says that the members were let go before the snapshots were taken,
// because the window had lasted for what it may.
type Overrun struct {
	Asked   time.Duration // max-window
	Took    time.Duration // first member frozen to last one thawed
	Waiting []string      // who did not stand still when time was up, and what it waited for
	Taken   bool          // take succeeded all the same, and nothing else went wrong: each domain is of one instant
}

func (o *Overrun) Error() string {
	s := fmt.Sprintf("the window was given up after %v (max-window = %v)", o.Took.Round(time.Microsecond), o.Asked)
	if len(o.Waiting) > 0 {
		s += ": still not standing still: " + strings.Join(o.Waiting, "; ")
	}
	return s
}
