package agent

import (
	"context"
	"errors"
	"slices"

	"snapd/internal/advice"
	"snapd/internal/freeze"
	"snapd/internal/fs"
	"snapd/internal/ship"
)

// errorName is one thing that callers tell apart, and its name between
// processes.
type errorName struct {
	name string
	err  error
}

// errorNames are those that exit statuses and advice depend on.
func errorNames() []errorName {
	return []errorName{
		{"not-root", ErrNotRoot},
		{"usage", advice.Usage},
		{"busy", advice.Busy},
		{"partial", advice.Partial},
		{"damaged", advice.Damaged},
		{"not-there", ErrNotThere},
		{"cancelled", context.Canceled},
		{"snapshots-here", SnapshotsHere},
		{"no-repository", NoRepository},
		{"last-of-group", LastOfGroup},
		{"not-accepted", NotAccepted},
		{"not-removed", NotRemoved},
		{"no-identity", ship.ErrNoIdentity},
		{"no-signer", ship.NoSigner},
		{"other-signer", ship.OtherSigner},
		{"undescribed", ship.Undescribed},
		{"exists", fs.ErrExists},
		{"no-space", fs.ErrNoSpace},
		{"filesystem-damaged", fs.ErrDamaged},
		{"signature", ship.ErrSignature},
		{"object-damaged", ship.ErrDamaged},
		{"denied", ship.ErrDenied},
		{"object-not-found", ship.ErrNotFound},
		{"no-bucket", ship.ErrNoBucket},
		{"conflict", ship.ErrConflict},
		{"other-host", ErrOtherHost},
		{"ship-busy", ship.ErrBusy},
		{"not-a-repository", ship.ErrNotRepository},
		{"unavailable", ship.ErrUnavailable},
		{"never-freeze", freeze.ErrNeverFreeze},
		{"changed", freeze.ErrChanged},
		{"disturbed", freeze.ErrDisturbed},
	}
}

// ErrorNames names what callers in another process can tell apart about an
// error: what is inside it that NamedError gives back.
func ErrorNames(err error) []string {
	var out []string
	for _, n := range errorNames() {
		if errors.Is(err, n.err) {
			out = append(out, n.name)
		}
	}
	return out
}

// NamedError is the error that a name of ErrorNames means, nil for a name that
// this version does not know.
func NamedError(name string) error {
	all := errorNames()
	if i := slices.IndexFunc(all, func(n errorName) bool { return n.name == name }); i >= 0 {
		return all[i].err
	}
	return nil
}
