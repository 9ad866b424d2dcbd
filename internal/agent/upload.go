package agent

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"snapd/internal/fs"
	"snapd/internal/retain"
	"snapd/internal/ship"
)

// ship asks streams by interfaces of its own, since it knows no storage. What
// fs has is the same, or it would not be asked for.
var (
	_ ship.Stater = fs.Stater(nil)
	_ fs.Stater   = ship.Stater(nil)
	_ ship.Denser = fs.Denser(nil)
	_ fs.Denser   = ship.Denser(nil)
)

// bases are what increments of a dataset can build on.
func bases(ctx context.Context, driver fs.Driver, dataset fs.Dataset, local []fs.Snapshot) ([]fs.Snapshot, error) {
	if m, ok := driver.(fs.Bookmarker); ok {
		return m.Bases(ctx, dataset)
	}
	return local, nil
}

// bookmarks are the guids of snapshots that need not stay to be bases.
func bookmarks(ctx context.Context, driver fs.Driver, dataset fs.Dataset) (map[string]bool, error) {
	if m, ok := driver.(fs.Bookmarker); ok {
		return m.Bookmarks(ctx, dataset)
	}
	return nil, nil
}

// senderOf opens the stream of what is uploaded, in its middle too where the
// driver can.
func (u *upload) senderOf(base *fs.Snapshot) ship.Sender {
	from := ship.Sender{Open: func(ctx context.Context) (io.ReadCloser, error) {
		r, err := u.driver.Send(ctx, u.snap, base)
		if n, ok := r.(fs.Noter); ok && err == nil {
			u.notes = n.Notes()
		}
		return r, err
	}}
	if r, ok := u.driver.(fs.Resumer); ok {
		from.Resume = func(ctx context.Context, at int64, state string) (io.ReadCloser, error) {
			return r.Resume(ctx, u.snap, base, at, state)
		}
	}
	return from
}

// why says how the stream came to be what it is.
func (u *upload) why() string { return strings.Join(append([]string{u.choice.Why}, u.notes...), "; ") }

// estimatePatience bounds how long a ship waits to know its size.
const estimatePatience = 10 * time.Second

// estimate is about how many bytes there are to ship, 0 when it is not known.
func (u *upload) estimate(ctx context.Context, base *fs.Snapshot) int64 {
	e, ok := u.driver.(fs.Estimator)
	if !ok {
		return 0
	}
	ctx, cancel := context.WithTimeout(ctx, estimatePatience)
	defer cancel()
	size, err := e.Estimate(ctx, u.snap, base)
	if err != nil {
		return 0
	}
	return size
}

// atLeast corrects an estimate that was too low; 0 stays unknown.
func atLeast(estimate, sent int64) int64 {
	if estimate == 0 {
		return 0
	}
	return max(estimate, sent)
}

// protect holds what is about to be shipped, also for the next attempt.
func (u *upload) protect(ctx context.Context, repo *ship.Repository, base *fs.Snapshot) error {
	if m, ok := u.driver.(fs.Bookmarker); ok {
		return m.Protect(ctx, repo.ID, u.snap, base)
	}
	return nil
}

// settle leaves a base of what was shipped. When it cannot, the stream is
// shipped all the same: a later increment takes another base.
func (a *Agent) settle(ctx context.Context, driver fs.Driver, repo *ship.Repository, s fs.Snapshot, group string) {
	m, ok := driver.(fs.Bookmarker)
	if !ok {
		return
	}
	if err := m.Shipped(context.WithoutCancel(ctx), repo.ID, s); err != nil {
		a.warn(group, "%v; the stream is shipped, but its snapshot has to stay as the base of increments", err)
	}
}

// explainChoice adds to why a base was chosen what is missing on this host:
// what was shipped after the newest base that is left. here has their guids.
func explainChoice(choice *retain.Choice, streams []ship.StreamRef, here map[string]uint64) {
	newest, lost := -1, 0
	for _, s := range streams {
		if _, there := here[s.GUID]; there {
			newest = max(newest, s.Number)
		}
	}
	for _, s := range streams {
		if s.Number > newest {
			lost++
		}
	}
	if lost > 0 {
		choice.Why += fmt.Sprintf("; %s gone from this host, snapshot and bookmark", plural(lost, "newer base is", "newer bases are"))
	}
}

// fullOf is the same stream without a base.
func fullOf(c retain.Choice, why string) retain.Choice {
	return retain.Choice{Number: c.Number, Why: "full: " + why}
}
