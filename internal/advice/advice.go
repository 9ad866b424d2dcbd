// Package advice carries what a person should do about an error, and of which
// class the error is, beside the error and never in its text. It is the only
// way in which either travels: through every package, and between processes.
//
// It knows no commands and no flags: a table in cmd/snapd adds what depends on
// those.
package advice

import (
	"errors"
	"fmt"
	"strings"
)

// Class is what callers and exit statuses tell apart about an error. It is a
// target for errors.Is and prints nothing: see In.
type Class string

// The classes.
const (
	Usage   Class = "usage"   // the call or the configuration is wrong; the same call can never work
	Partial Class = "partial" // something was achieved, and something was not
	Busy    Class = "busy"    // another task has what this one needs; later it can work
	Damaged Class = "damaged" // what was stored is not what was written
)

// Classes are all of them, the one that decides an exit status first.
func Classes() []Class { return []Class{Partial, Damaged, Usage, Busy} }

// Error is the name, for logs; an error of the class does not contain it.
func (c Class) Error() string { return string(c) }

type classed struct {
	err   error
	class Class
}

func (c *classed) Error() string        { return c.err.Error() }
func (c *classed) Unwrap() error        { return c.err }
func (c *classed) Is(target error) bool { return target == c.class }

// In puts an error into a class, which errors.Is finds. The text stays as it
// is, and nil stays nil.
func In(class Class, err error) error {
	if err == nil {
		return nil
	}
	return &classed{err: err, class: class}
}

// Usagef makes an error of a wrong call or a wrong configuration.
func Usagef(format string, args ...any) error {
	return In(Usage, fmt.Errorf(format, args...))
}

type advised struct {
	err error
	do  string
}

func (a *advised) Error() string { return a.err.Error() }
func (a *advised) Unwrap() error { return a.err }

// With adds to an error what its reader should do: a sentence in the
// imperative, without a full stop. The text of the error stays as it is, and
// nil stays nil.
func With(err error, format string, args ...any) error {
	if err == nil {
		return nil
	}
	return &advised{err: err, do: fmt.Sprintf(format, args...)}
}

// Of is what the reader of an error should do, "" when no one said so. The
// outermost advice wins: who wrapped the error last knows most of the case.
// Of several joined errors, it is that of the first that has any.
func Of(err error) string {
	if a, ok := errors.AsType[*advised](err); ok {
		return a.do
	}
	return ""
}

// Parted is an error that is made of several, each of which has its own advice.
// Those of another process are: see Parts.
type Parted interface{ Parts() []error }

// several is what errors.Join makes.
type several interface{ Unwrap() []error }

// Parts are the errors that one was joined of, each with its own advice, without
// the class that all of them together have. An error that is not joined, or is
// advised as a whole, is the only one of its parts.
func Parts(err error) []error {
	switch e := err.(type) { //nolint:errorlint // what is wrapped around a part belongs to it
	case *classed:
		if inner := Parts(e.err); len(inner) > 1 {
			return inner
		}
	case Parted:
		if parts := e.Parts(); len(parts) > 1 {
			return parts
		}
	case several:
		if all := e.Unwrap(); err.Error() == textOf(all) { // else it says more than they do
			var out []error
			for _, inner := range all {
				out = append(out, Parts(inner)...)
			}
			return out
		}
	}
	return []error{err}
}

func textOf(all []error) string {
	texts := make([]string, len(all))
	for i, err := range all {
		texts[i] = err.Error()
	}
	return strings.Join(texts, "\n")
}
