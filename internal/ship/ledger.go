package ship

import (
	"context"
	"errors"

	"snapd/internal/point"
)

var errNotYet = errors.New("not yet made") //nolint:gochecknoglobals // skeleton

// NoteDamage puts into the ledger what was found damaged or missing, so that
// every host knows it. What is noted already is not noted again. view is
// brought up to date.
func (r *Repository) NoteDamage(_ context.Context, _ *View, _ []Damage) error { return errNotYet }

// NoteWhole puts into the ledger which damaged streams were found whole again.
func (r *Repository) NoteWhole(_ context.Context, _ *View, _ []point.ID) error { return errNotYet }

// Pin keeps points whatever retention says, until Unpin.
func (r *Repository) Pin(_ context.Context, _ *View, _ []point.ID) error { return errNotYet }

// Unpin ends Pin.
func (r *Repository) Unpin(_ context.Context, _ *View, _ []point.ID) error { return errNotYet }

// Abandon says that uploads were given up by the host that began them: what
// they have put may go.
func (r *Repository) Abandon(_ context.Context, _ *View, _ []point.ID) error { return errNotYet }

// Absent says of numbers that their points are gone for good. Each is asked
// for by name first; one that is there is an error.
func (r *Repository) Absent(_ context.Context, _ *View, _ []int64) error { return errNotYet }

// Adopt says which host goes on with the points here.
func (r *Repository) Adopt(_ context.Context, _ *View, _ string) error { return errNotYet }
