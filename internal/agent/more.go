package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"snapd/internal/fs"
	"snapd/internal/point"
	"snapd/internal/retain"
	"snapd/internal/ship"
)

// What a driver may have beside fs.Driver. Each is used where it is there, and
// nothing else depends on it.

// marker is a driver whose bases outlive their snapshots, as bookmarks do, and
// that can hold what is being shipped. A purpose is a repository's id.
type marker interface {
	// Bases lists what increments of a dataset can build on, oldest first.
	Bases(ctx context.Context, dataset fs.Dataset) ([]fs.Snapshot, error)
	// Bookmarks are the guids of snapshots that need not be kept as bases.
	Bookmarks(ctx context.Context, dataset fs.Dataset) (map[string]bool, error)
	// Protect keeps a snapshot and its base from being destroyed.
	Protect(ctx context.Context, purpose string, s fs.Snapshot, base *fs.Snapshot) error
	// Shipped lets go of what Protect held, and leaves a base behind.
	Shipped(ctx context.Context, purpose string, s fs.Snapshot) error
	// Tidy removes bases and holds for which needed and held say no.
	Tidy(ctx context.Context, dataset fs.Dataset, needed func(guid string) bool, held func(purpose, guid string) bool) ([]string, error)
}

// resumer is a driver that can open a stream in its middle: see ship.Sender.
type resumer interface {
	Resume(ctx context.Context, s fs.Snapshot, base *fs.Snapshot, at int64, state string) (io.ReadCloser, error)
}

// estimator says about how many bytes a stream will have.
type estimator interface {
	Estimate(ctx context.Context, s fs.Snapshot, base *fs.Snapshot) (int64, error)
}

// describer knows what a person has set on datasets, by their guids, and hands
// it to an expecter when one is restored.
type describer interface {
	Properties(ctx context.Context, datasets []fs.Dataset) (map[string]map[string]string, error)
}

// expecter is a receiver that wants to know before the first stream what a
// describer said of the dataset.
type expecter interface {
	Expect(ctx context.Context, properties map[string]string) error
}

// unsuspender is a driver whose commands, when they are killed, can leave
// datasets suspended: whoever writes there waits.
type unsuspender interface {
	Unsuspend(ctx context.Context, datasets []fs.Dataset) ([]string, error)
}

// noter is a receiver with something to say after Finish, or a stream that says
// what it cost to find out what to send.
type noter interface{ Notes() []string }

// bases are what increments of a dataset can build on.
func bases(ctx context.Context, driver fs.Driver, dataset fs.Dataset, local []fs.Snapshot) ([]fs.Snapshot, error) {
	if m, ok := driver.(marker); ok {
		return m.Bases(ctx, dataset)
	}
	return local, nil
}

// streamFormat is the format of the stream of a snapshot, and whether its
// chain must keep to it.
func streamFormat(ctx context.Context, driver fs.Driver, s fs.Snapshot) (format string, always bool, err error) {
	if f, ok := driver.(interface {
		FormatOf(ctx context.Context, s fs.Snapshot) (string, error)
	}); ok {
		format, err = f.FormatOf(ctx, s)
		return format, true, err
	}
	format, err = formatOf(ctx, driver)
	return format, false, err
}

// senderOf opens the stream of what is uploaded, in its middle too where the
// driver can.
func (u *upload) senderOf(base *fs.Snapshot) ship.Sender {
	from := ship.Sender{Open: func(ctx context.Context) (io.ReadCloser, error) {
		r, err := u.driver.Send(ctx, u.snap, base)
		if n, ok := r.(noter); ok && err == nil {
			u.notes = n.Notes()
		}
		return r, err
	}}
	if r, ok := u.driver.(resumer); ok {
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

// estimate is about how many bytes there are to ship, 0 when nobody knows.
func (u *upload) estimate(ctx context.Context, base *fs.Snapshot) int64 {
	e, ok := u.driver.(estimator)
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

// protect holds what is about to be shipped, also for the next attempt.
func (u *upload) protect(ctx context.Context, repo *ship.Repository, base *fs.Snapshot) error {
	if m, ok := u.driver.(marker); ok {
		return m.Protect(ctx, repo.ID, u.snap, base)
	}
	return nil
}

// settle leaves a base of what was shipped. When it cannot, the stream is
// shipped all the same: a later increment takes another base.
func (a *Agent) settle(ctx context.Context, driver fs.Driver, repo *ship.Repository, s fs.Snapshot, group string) {
	m, ok := driver.(marker)
	if !ok {
		return
	}
	if err := m.Shipped(context.WithoutCancel(ctx), repo.ID, s); err != nil {
		a.warnOfError(group, fmt.Errorf("%w; the stream is shipped, but its snapshot has to stay as the base of increments", err))
	}
}

// explainChoice adds to why a base was chosen what is missing on this host:
// what was shipped after the newest base that is left.
func explainChoice(choice *retain.Choice, streams []ship.StreamRef, here []fs.Snapshot) {
	newest, lost := -1, 0
	for _, s := range streams {
		if snapshotWith(here, s.GUID) != nil {
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

// describe keeps in a point what a person has set on its datasets. It is no
// reason to lose the point when that cannot be read.
func (a *Agent) describe(ctx context.Context, r *resolved, p *point.Point) {
	all := map[string]map[string]string{}
	for name, driver := range a.Drivers {
		d, ok := driver.(describer)
		if !ok {
			continue
		}
		of := slices.DeleteFunc(slices.Clone(r.datasets), func(d fs.Dataset) bool { return d.Driver != name })
		if len(of) == 0 {
			continue
		}
		props, err := d.Properties(ctx, of)
		if err != nil {
			p.Warnings = append(p.Warnings, "the properties of its datasets are not in the point: "+inOneLine(err))
		}
		maps.Copy(all, props)
	}
	if len(all) == 0 {
		return
	}
	text, err := json.Marshal(all)
	if err != nil {
		p.Warnings = append(p.Warnings, "the properties of its datasets are not in the point: "+inOneLine(err))
		return
	}
	p.Properties = text
}

// expect tells a receiver what the dataset was like.
func expect(ctx context.Context, receiver fs.Receiver, p point.Point, d point.Dataset) error {
	e, ok := receiver.(expecter)
	if !ok || len(p.Properties) == 0 {
		return nil
	}
	var all map[string]map[string]string
	if err := json.Unmarshal(p.Properties, &all); err != nil {
		return fmt.Errorf("the point's properties of its datasets: %w", err)
	}
	return e.Expect(ctx, all[d.Origin])
}

// tellNotes passes on what a receiver has to say: what is locked, not mounted,
// or could not be set again.
func (a *Agent) tellNotes(receiver fs.Receiver) {
	if n, ok := receiver.(noter); ok {
		for _, note := range n.Notes() {
			a.warn("", "%s", note)
		}
	}
}

// tidy removes bookmarks and holds that nothing needs any more from the
// datasets of a group's points.
func (h *pruneHere) tidy(ctx context.Context, points []point.Point) error {
	var faults []error
	seen := map[string]bool{}
	for _, p := range points {
		for _, d := range p.Datasets {
			driver, err := h.agent.driver(d.Driver)
			m, ok := driver.(marker)
			if err != nil || !ok || seen[d.Origin] || h.dryRun {
				continue
			}
			seen[d.Origin] = true
			removed, err := h.tidyDataset(ctx, m, datasetOf(d))
			for _, r := range removed {
				h.agent.step(h.group.Name, "removed %s, which nothing needs any more", r)
			}
			faults = append(faults, err)
		}
	}
	return errors.Join(faults...)
}

// tidyDataset keeps a bookmark as long as any repository lists its stream, and
// everything while one does not answer. A hold is kept while its ship runs or
// is to be continued.
func (h *pruneHere) tidyDataset(ctx context.Context, m marker, dataset fs.Dataset) (_ []string, err error) {
	a := h.agent
	active, err := a.records.Active()
	if err != nil {
		return nil, err
	}
	locks := map[string]*lock{}
	defer func() {
		for _, l := range locks {
			if l != nil {
				err = errors.Join(err, l.release())
			}
		}
	}()
	idle := func(purpose string) bool {
		if _, asked := locks[purpose]; !asked {
			locks[purpose], _ = a.tryLock("ship-"+purpose+"-"+dataset.GUID, "the ship of "+dataset.Name)
		}
		return locks[purpose] != nil
	}
	return m.Tidy(ctx, dataset, func(guid string) bool { return h.listsStream(dataset.GUID, guid) }, func(purpose, _ string) bool {
		unfinished := slices.ContainsFunc(active, func(r ship.RecordHead) bool { return r.Repository == purpose && r.Origin == dataset.GUID })
		return unfinished || !idle(purpose)
	})
}

// listsStream tells whether a repository has, or may have, the stream of a
// snapshot.
func (h *pruneHere) listsStream(origin, guid string) bool {
	if len(h.indexes) < len(h.agent.Config.Repositories) {
		return true
	}
	for _, index := range h.indexes {
		if _, there := index.BySnapshot(origin, guid); there {
			return true
		}
	}
	return false
}

// bookmarks are the guids of snapshots that need not stay to be bases.
func bookmarks(ctx context.Context, driver fs.Driver, dataset fs.Dataset) (map[string]bool, error) {
	if m, ok := driver.(marker); ok {
		return m.Bookmarks(ctx, dataset)
	}
	return nil, nil
}

// atLeast corrects an estimate that was too low; 0 stays unknown.
func atLeast(estimate, sent int64) int64 {
	if estimate == 0 {
		return 0
	}
	return max(estimate, sent)
}
