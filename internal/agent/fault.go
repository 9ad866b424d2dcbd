package agent

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"snapd/internal/advice"
	"snapd/internal/config"
	"snapd/internal/fs"
	"snapd/internal/ship"
)

// What callers can tell apart, besides the sentinels of the packages below.
var (
	ErrNotRoot  = errors.New("only root may do this: snapshots, mounts and freezing need it")
	ErrUsage    = errors.New("wrong usage")
	ErrBusy     = errors.New("busy")
	ErrPartial  = errors.New("done in part")
	ErrDamaged  = errors.New("damage was found")
	ErrNotThere = errors.New("no such restore point")
)

// Fault is an error as a person reads it: what failed, why, and what to do.
type Fault struct {
	What string `json:"what"`
	Why  string `json:"why"`
	Do   string `json:"do"`
}

// hint adds what to do to an error.
func hint(err error, format string, args ...any) error { return advice.With(err, format, args...) }

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

// within is the one error that an error is wrapped around.
func within(err error) error {
	if all, ok := err.(several); ok && len(all.Unwrap()) == 1 {
		return all.Unwrap()[0]
	}
	return errors.Unwrap(err)
}

// usage makes an error of a wrong call.
func usage(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrUsage, fmt.Sprintf(format, args...))
}

// Hint says what the reader of an error should do, "" when nothing better is
// known than what the error itself says.
func Hint(err error) string {
	if _, ok := errors.AsType[*config.Error](err); ok {
		return "mend that line; the keys are described in docs/snapd.toml.md"
	}
	// What an error says about its very case is better than a word for all cases.
	if do := advice.Of(err); do != "" {
		return do
	}
	for _, known := range []struct {
		err error
		do  string
	}{
		{context.Canceled, "run the same command again: it goes on where it stopped"},
		{ErrNotRoot, "run it as root, for example with sudo"},
		{ErrBusy, "wait for the other one, or look at it with: snapd status"},
		{ship.ErrNoIdentity, "name what opens it with --kit FILE (the recovery kit that snapd init made) or --identity FILE"},
		{ship.NoSigner, "give it with --signer KEY; it stands in the recovery kit"},
		{ship.OtherSigner, "give each host a prefix of its own; to read another host's, name its key with --signer KEY"},
		{fs.ErrDamaged, "restore an older point beside it, or let e2fsck or xfs_repair mend this one"},
		{ErrNotThere, "snapd list shows the restore points"},
		{fs.ErrExists, "name another target, or say --beside (a new name next to it) or --replace (what is there is kept under another name)"},
		{fs.ErrNoSpace, "make room and run the same command again; what was there before is untouched"},
		{ship.ErrSignature, "do not trust what lies there; compare the signer's key with the recovery kit"},
		{ship.ErrDamaged, "run: snapd verify, which names every damaged object and the points that need it"},
		{ship.ErrDenied, "check the access key, the secret key and the rights of that user on the bucket; snapd doctor tests them one by one"},
		{ship.ErrNoBucket, "mend the address; if it is right and new, make the bucket (snapd never does), then run: snapd init"},
		{ship.ErrConflict, "this host or its clone must get a signing key and a prefix of its own: give the clone another signing-key-file and url, then run: snapd init"},
		{ship.ErrBusy, "wait for the other one; what it ships need not be shipped again"},
		{ship.ErrNotRepository, "if the address is right and nothing was ever shipped there, run: snapd init"},
		{ship.ErrUnavailable, "check the endpoint and the network; what was shipped so far is kept, and the next run goes on from there"},
	} {
		if errors.Is(err, known.err) {
			return known.do
		}
	}
	return ""
}
