package agent

import (
	"context"
	"errors"

	"snapd/internal/config"
	"snapd/internal/ship"
)

// kind is one thing that callers tell apart, and its name between processes.
type kind struct {
	name string
	err  error
}

// kinds are those that exit statuses and hints depend on.
func kinds() []kind {
	return []kind{
		{"not-root", ErrNotRoot},
		{"usage", ErrUsage},
		{"busy", ErrBusy},
		{"partial", ErrPartial},
		{"damaged", ErrDamaged},
		{"not-there", ErrNotThere},
		{"cancelled", context.Canceled},
	}
}

// Kinds names what callers in another process can tell apart about an error:
// what is inside it that KindError gives back.
func Kinds(err error) []string {
	var out []string
	for _, k := range kinds() {
		if errors.Is(err, k.err) {
			out = append(out, k.name)
		}
	}
	if _, ok := errors.AsType[*config.Error](err); ok {
		out = append(out, "usage")
	}
	if errors.Is(err, ship.ErrBusy) {
		out = append(out, "busy")
	}
	return out
}

// KindError is the error that a name of Kinds means, nil for a name that this
// version does not know.
func KindError(name string) error {
	for _, k := range kinds() {
		if k.name == name {
			return k.err
		}
	}
	return nil
}

// WithHint adds to an error what its reader should do.
func WithHint(err error, do string) error { return hint(err, "%s", do) }
