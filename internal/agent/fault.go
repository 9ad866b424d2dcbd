package agent

import (
	"errors"
	"strings"

	"snapd/internal/advice"
)

// What callers can tell apart, besides the classes of advice and the sentinels
// of the packages below.
var (
	ErrNotRoot  = errors.New("only root may do this: snapshots, mounts and freezing need it")
	ErrNotThere = errors.New("no such restore point")
)

// Causes that have no words of their own. What helps against them is a flag of
// the command, which only the caller knows.
const (
	NoTarget      advice.Class = "no-target"      // it is not said, or not understood, where to restore to
	OneName       advice.Class = "one-name"       // one name was given for several datasets
	OneByOne      advice.Class = "one-by-one"     // the datasets of the point cannot be restored together
	EitherOr      advice.Class = "either-or"      // a name beside the target, and to replace it
	NoCheck       advice.Class = "no-check"       // the storage has no filesystems to check
	SnapshotsHere advice.Class = "snapshots-here" // this host has the snapshots of the point
	NotHere       advice.Class = "not-here"       // this host has no snapshot of the point that it could open
	FileThere     advice.Class = "file-there"     // there is a configuration, and it names another repository than the caller
	NoRepository  advice.Class = "no-repository"  // no repository is configured or named
	NoTmpfs       advice.Class = "no-tmpfs"       // the run directory outlives a power cut
)

// Fault is an error as a person reads it: what failed, why, and what to do.
type Fault struct {
	What string `json:"what"`
	Why  string `json:"why"`
	Do   string `json:"do"`
	// Parts are what it is made of, when that are several errors with advice of
	// their own; Why has the text of all, and Do the advice of the first.
	Parts []FaultPart `json:"parts,omitempty"`
}

// FaultPart is one of several errors of a call.
type FaultPart struct {
	Why string `json:"why"`
	Do  string `json:"do"`
}

// with joins to an error what went wrong after it, but for what has the same
// cause: a pool that is gone need not be named once for each step.
func with(err error, after ...error) error {
	all := []error{err}
	for _, e := range after {
		if e != nil && (err == nil || !strings.Contains(err.Error(), root(e))) {
			all = append(all, e)
		}
	}
	return errors.Join(all...)
}

// root is an error without its context: its innermost words, with what they
// are said of.
func root(err error) string {
	for {
		inner := within(err)
		if inner == nil || within(inner) == nil {
			return err.Error()
		}
		err = inner
	}
}

// several is an error that wraps some others, as those of errors.Join do.
type several interface{ Unwrap() []error }

// within is the one error that an error is wrapped around. Advice and classes,
// which say nothing, are no context.
func within(err error) error {
	inner := errors.Unwrap(err)
	if all, ok := err.(several); ok && len(all.Unwrap()) == 1 {
		inner = all.Unwrap()[0]
	}
	if inner != nil && inner.Error() == err.Error() {
		return within(inner)
	}
	return inner
}
