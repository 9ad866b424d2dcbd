package agent

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"snapd/internal/config"
	"snapd/internal/ship"
)

// begin tells whether a repository may be made where none is described. What
// lies there, or what this host remembers of the place, may say that one was
// there: a second one would hide it from every reader.
func (s *setup) begin(ctx context.Context, store ship.Store, p *place, missing error) error {
	trusted, err := ship.ParsePublicKey(p.Signer)
	if err != nil {
		return err
	}
	left, err := ship.FindRemains(ctx, store, trusted)
	switch {
	case err != nil:
		return err
	case left.ID != "" && p.signer != nil:
		p.remains = left
		return ship.TryWrite(ctx, store)
	case left.Objects > 0:
		o := obstacle(RemainsThere, "%s has no description of a repository any more, but %s of one, which this host's key did not sign for one repository", p.URL, plural(left.Objects, "object", "objects"))
		o.Free = s.freeAddress(ctx, p.Repository)
		return o
	case s.FromKit:
		return missing
	}
	if number, dir := seenAt(s.State, p.Repository); number > 0 {
		o := obstacle(RepositoryGone, "there is no repository at %s, and this host has seen one there, with points up to number %d", p.URL, number)
		o.Free, o.Memory = s.freeAddress(ctx, p.Repository), dir
		return o
	}
	return ship.TryWrite(ctx, store)
}

// seenAt is the highest number of a point that this host has seen at an
// address, and the folder in which it remembers that. 0: none.
func seenAt(state string, r config.Repository) (number int64, dir string) {
	if state == "" {
		return 0, ""
	}
	all := filepath.Join(state, "repositories")
	entries, err := os.ReadDir(all)
	if err != nil {
		return 0, "" // nothing is remembered: it may be lost
	}
	for _, e := range entries {
		if f := readFound(filepath.Join(all, e.Name())); f.Address == addressOf(r) && f.Newest > number {
			number, dir = f.Newest, filepath.Join(all, e.Name())
		}
	}
	return number, dir
}

// addressOf is where a repository lies, in one line.
func addressOf(r config.Repository) string { return fmt.Sprint(r.URL, " ", r.Endpoint) }
