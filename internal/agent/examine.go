package agent

import (
	"context"
	"errors"

	"snapd/internal/point"
	"snapd/internal/ship"
)

// Examined is what a look at one repository says to a user who checks this host.
type Examined struct {
	Points    int
	Problems  []string // what is unexplained there
	Damaged   []string // ids of kept points that damage reaches
	Spoiled   int      // streams that are damaged or missing
	Lost      []string
	Future    []string
	Other     []string // kept points that others than the recipients of now open
	Mixed     []string // kept points that no single set of recipients opens
	Encrypted bool     // the repository is encrypted
	Room      Room
	// Base is what the newest streams build on that is locked for the shortest
	// time; nil when the store has no locks, or does not say.
	Base *BaseLock
}

// BaseLock is as ship.BaseLock.
type BaseLock ship.BaseLock

// Examine looks through a repository, whole, and changes nothing there.
func (a *Agent) Examine(ctx context.Context, name string) (Examined, error) {
	repo, view, cache, err := a.openView(ctx, name, ship.Whole)
	if err != nil {
		return Examined{}, err
	}
	defer cache.Close() //nolint:errcheck // what it could not write is read again
	out := Examined{Points: len(view.Points), Spoiled: len(view.Damage()), Encrypted: repo.Encryption != ship.EncryptionNone}
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
	if repo.RecipientsTag() != "" { // a host that only reads does not know them
		other, mixed := repo.OtherRecipients(view)
		out.Other, out.Mixed = texts(other), texts(mixed)
	}
	if base, err := repo.OldestBase(ctx, view); err == nil {
		out.Base = (*BaseLock)(&base)
	}
	free, all, err := repo.Space(ctx)
	if err != nil && !errors.Is(err, errors.ErrUnsupported) {
		return out, err
	}
	out.Room = Room{Free: free, All: all, Ship: lastShip(view)}
	return out, nil
}

func texts(ids []point.ID) []string {
	var out []string
	for _, id := range ids {
		out = append(out, string(id))
	}
	return out
}
