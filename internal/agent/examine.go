package agent

import (
	"context"
	"errors"

	"snapd/internal/point"
	"snapd/internal/ship"
)

// Examined is what a look at one repository says to who checks this host.
type Examined struct {
	Points    int
	Problems  []string // what is unexplained there
	Damaged   []string // ids of kept points that damage reaches
	Spoiled   int      // streams that are damaged or missing
	Lost      []string
	Future    []string
	Other     []string // kept points that others than the recipients of now open
	Mixed     []string // kept points that no single set of recipients opens
	Sealed    bool     // the repository is encrypted
	CanTell   bool     // how much room there is
	Free, All int64    // bytes
}

// Examine looks through a repository, whole, and changes nothing there.
func (a *Agent) Examine(ctx context.Context, name string) (Examined, error) {
	repo, view, cache, err := a.openView(ctx, name, ship.Whole)
	if err != nil {
		return Examined{}, err
	}
	defer cache.Close() //nolint:errcheck // what it could not write is read again
	out := Examined{Points: len(view.Points), Spoiled: len(view.Damage()), Sealed: repo.Encryption != ship.EncryptionNone}
	for _, p := range view.Problems {
		out.Problems = append(out.Problems, p.Object+": "+p.Problem)
	}
	reached := damagedPoints(view)
	for _, r := range view.Points {
		if len(reached[r.ID]) > 0 {
			out.Damaged = append(out.Damaged, string(r.ID))
		}
		if isFuture(r.Time, a.Now()) {
			out.Future = append(out.Future, string(r.ID))
		}
	}
	for _, r := range lostPoints(view) {
		out.Lost = append(out.Lost, string(r.ID))
	}
	if repo.RecipientsTag() != "" { // who only reads does not know them
		other, mixed := repo.OtherRecipients(view)
		out.Other, out.Mixed = texts(other), texts(mixed)
	}
	out.Free, out.All, err = repo.Space(ctx)
	switch {
	case err == nil:
		out.CanTell = true
	case !errors.Is(err, errors.ErrUnsupported):
		return out, err
	}
	return out, nil
}

func texts(ids []point.ID) []string {
	var out []string
	for _, id := range ids {
		out = append(out, string(id))
	}
	return out
}
