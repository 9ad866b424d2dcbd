package ship_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"time"

	"snapd/internal/point"
	"snapd/internal/ship"
)

// The agent of the histories: what internal/agent does with a repository, in
// as few lines as it can be said.

// agentState is what it keeps between two steps: its cache is on disk, and may
// be lost.
type agentState struct {
	busy bool // one ship at a time
}

// repo opens the repository and what the host remembers of it, as a process
// does that was just begun.
func (w *world) repo(h *host) (*ship.Repository, *ship.Cache, error) {
	repo, err := ship.Open(context.Background(), w.store(), ship.OpenOptions{Signer: w.signer, Memory: w.memory})
	if err != nil {
		return nil, nil, err
	}
	cache, err := ship.OpenCache(h.dir + "/repositories/" + repo.ID)
	return repo, cache, err
}

func (w *world) forget(h *host) {
	_ = os.RemoveAll(h.dir)
	_ = w.boot(h)
}

// ship ships what a repository lacks of a point, then the point.
func (w *world) ship(h *host, p *localPoint, stop int) error {
	ctx := context.Background()
	repo, cache, err := w.repo(h)
	if err != nil {
		return err
	}
	defer cache.Close()
	h.busy = true
	defer func() {
		h.busy = false
		if w.nested == 0 {
			w.truth.end()
		}
	}()
	view, err := w.view(ctx, repo, cache, h)
	if err != nil {
		return err
	}
	if view.Dropped(p.id) {
		return errDropped
	}
	if err := w.oneHost(h, cache, view); err != nil {
		return err
	}
	there, put := view.Point(p.id)
	if put {
		for _, s := range there.Streams {
			p.streams[s.Origin] = s
		}
	}
	whole := put
	for _, origin := range slices.Sorted(maps.Keys(p.guids)) {
		if s, ok := p.streams[origin]; ok && view.Whole(s.Stream) {
			continue
		}
		whole = false
		s, err := w.shipDataset(ctx, repo, view, h, p, origin, stop)
		if err != nil {
			return err
		}
		p.streams[origin] = s
	}
	if whole {
		p.number = there.Number
		return nil
	}
	w.meanwhile("between manifest and point")
	return w.commit(ctx, repo, cache, h, p)
}

func (w *world) view(ctx context.Context, repo *ship.Repository, cache *ship.Cache, h *host) (*ship.View, error) {
	return repo.View(ctx, cache, ship.Look(w.rng.IntN(2)))
}

var (
	errDropped = errors.New("the point was dropped")
	errClone   = errors.New("another host writes here")
)

func (w *world) commit(ctx context.Context, repo *ship.Repository, cache *ship.Cache, h *host, p *localPoint) error {
	view, err := w.view(ctx, repo, cache, h)
	if err != nil {
		return err
	}
	rec := ship.PointRecord{ID: p.id, Host: h.id, Time: time.Now().Add(h.skew), Consistency: point.Crash, Secret: ship.Secret{Group: "shop"}}
	for _, origin := range slices.Sorted(maps.Keys(p.guids)) {
		rec.Streams = append(rec.Streams, p.streams[origin])
	}
	number, err := repo.PutPoint(ctx, rec, view)
	if errors.Is(err, ship.ErrDamaged) || errors.Is(err, ship.ErrNotFound) {
		for _, s := range p.streams { // they are shipped anew, and not found again by their record
			if err := h.records.Forget(s.Stream); err != nil {
				return err
			}
		}
		clear(p.streams)
	}
	if err != nil {
		return err
	}
	p.number = number
	if err := cache.NotePut(number); err != nil {
		return err
	}
	for _, s := range p.streams {
		if err := repo.EndLease(ctx, s.Stream); err != nil {
			w.say("the lease stays: %v", err)
		}
		if err := h.records.Forget(s.Stream); err != nil {
			return err
		}
	}
	return nil
}

// oneHost stops where another host wrote last, until a person says which one
// goes on; half of the time one does.
func (w *world) oneHost(h *host, cache *ship.Cache, view *ship.View) error {
	for _, rec := range view.Writers(cache.Seen().Put) {
		if slices.ContainsFunc(h.points, func(p *localPoint) bool { return p.id == rec.ID }) {
			continue
		}
		if w.rng.IntN(2) == 0 {
			return errClone
		}
		w.say("a person says that %s goes on", h.name)
		return cache.NotePut(view.Highest())
	}
	return nil
}

func (w *world) shipDataset(ctx context.Context, repo *ship.Repository, view *ship.View, h *host, p *localPoint, origin string, stop int) (ship.PointStream, error) {
	guid := p.guids[origin]
	if ref, ok := view.BySnapshot(origin, guid); ok {
		m, err := repo.Manifest(ctx, ref)
		if err == nil {
			return m.InPoint(), nil
		}
		w.say("the stream that was there: %v", err)
	}
	at := slices.Index(h.snaps[origin], guid)
	if at < 0 {
		return ship.PointStream{}, fmt.Errorf("snapshot %s is gone from this host", guid)
	}
	head := ship.Head{Point: p.id, Driver: "btrfs", Format: "btrfs-2", Origin: origin, GUID: guid, Host: h.id}
	for _, base := range slices.Backward(h.snaps[origin][:at]) {
		if ref, ok := view.BySnapshot(origin, base); ok && !p.full[origin] {
			head.Base, head.Number, head.Depth = &ref, ref.Number+1, ref.Depth+1
			break
		}
	}
	s, err := w.upload(ctx, repo, h, head, stop)
	if unfit, ok := errors.AsType[*ship.UnfitBase](err); ok {
		w.say("%v", err)
		if err := repo.NoteDamage(ctx, view, unfit.Damage); err != nil {
			return ship.PointStream{}, err
		}
		head.Base, head.Number, head.Depth, head.Full = nil, 0, 0, unfit.Error()
		s, err = w.upload(ctx, repo, h, head, stop)
	}
	if err != nil {
		return ship.PointStream{}, err
	}
	return s.InPoint("btrfs")
}

func (w *world) upload(ctx context.Context, repo *ship.Repository, h *host, head ship.Head, stop int) (ship.Stream, error) {
	base := ""
	if head.Base != nil {
		base = head.Base.GUID
	}
	data := streamOf(head.Origin, base, head.GUID)
	open := func(context.Context) (io.ReadCloser, error) {
		return &sending{w: w, data: data, stop: stop}, nil
	}
	return repo.Upload(ctx, head, open, h.records, nil)
}

// prune prunes, and says what it said; stopped tells that it would not delete.
func (w *world) prune(h *host, drop []point.ID, now time.Time, dry, orphans bool) (said string, err error) {
	ctx := context.Background()
	repo, cache, err := w.repo(h)
	if err != nil {
		return "", err
	}
	defer cache.Close()
	keep, err := h.records.Keep(repo.ID)
	if err != nil {
		return "", err
	}
	var view *ship.View
	if w.rng.IntN(3) > 0 {
		if view, err = repo.View(ctx, cache, ship.Look(w.rng.IntN(2))); err != nil {
			return "", err
		}
	}
	for _, id := range drop {
		w.truth.asked[id] = w.truth.asked[id] || !dry
	}
	got, err := repo.Prune(ctx, view, drop, ship.PruneOptions{Now: now, DryRun: dry, Keep: keep, Orphans: orphans})
	said = fmt.Sprintf("%d points, %d streams, %d objects", len(got.Points), len(got.Streams), got.Objects)
	for _, p := range got.Problems {
		said += fmt.Sprintf("; %s: %s", p.Object, p.Problem)
	}
	if len(got.Problems) > 0 && err == nil {
		w.truth.fault("a prune had problems, and gave no error")
	}
	return said, err
}

// verify reads everything, and notes what it finds.
func (w *world) verify(h *host) error {
	ctx := context.Background()
	repo, cache, err := w.repo(h)
	if err != nil {
		return err
	}
	defer cache.Close()
	got, problems, err := repo.Verify(ctx, ship.VerifyOptions{}, nil)
	if err != nil {
		return err
	}
	var suspect []string // as the agent does: every look asks for them
	for _, p := range problems {
		suspect = append(suspect, p.Object)
	}
	if err := cache.NoteSuspect(suspect); err != nil {
		return err
	}
	view, err := repo.View(ctx, cache, ship.Whole)
	if err != nil {
		return err
	}
	if err := repo.NoteDamage(ctx, view, got.Damage); err != nil {
		return err
	}
	return repo.NoteWhole(ctx, view, got.Whole)
}

// giveUpUploads is what a person does with uploads that will not go on.
func (w *world) giveUpUploads() error {
	ctx := context.Background()
	repo, cache, err := w.repo(w.hosts[0])
	if err != nil {
		return err
	}
	defer cache.Close()
	view, err := repo.View(ctx, cache, ship.Whole)
	if err != nil {
		return err
	}
	leases, _, err := repo.Leases(ctx)
	if err != nil {
		return err
	}
	var streams []point.ID
	needed := view.Streams()
	var unneeded []point.ID
	for _, l := range leases {
		streams = append(streams, l.Stream)
		if !slices.ContainsFunc(needed, func(s ship.StreamRef) bool { return s.ID == l.Stream }) {
			unneeded = append(unneeded, l.Stream)
		}
	}
	if len(unneeded) > 0 {
		if err := repo.Abandon(ctx, view, unneeded); err != nil {
			return err
		}
	}
	for _, id := range streams {
		if err := repo.EndLease(ctx, id); err != nil {
			return err
		}
		for _, h := range w.hosts {
			if err := h.records.Forget(id); err != nil {
				return err
			}
		}
	}
	return nil
}

// restore reads a point as the owner of the kit does, without a cache.
func (w *world) restore(rec *pointFact) error {
	ctx := context.Background()
	repo, err := ship.Open(ctx, w.liar, ship.OpenOptions{Trusted: w.signer.Public(), Memory: w.memory})
	if err != nil {
		return err
	}
	view, err := repo.View(ctx, nil, ship.Whole)
	if err != nil {
		return err
	}
	p, ok := view.Point(rec.id)
	if !ok {
		return errors.New("it is not among the points")
	}
	if p.Number != rec.number {
		return fmt.Errorf("number %d counts", p.Number)
	}
	for _, s := range p.Streams {
		chain, err := repo.Chain(ctx, s.Stream, view)
		if err != nil {
			return err
		}
		if err := readChain(ctx, repo, chain, s.Origin, s.GUID); err != nil {
			return err
		}
	}
	return nil
}

// readChain compares a chain with what the storage sent.
func readChain(ctx context.Context, repo *ship.Repository, chain []*ship.Manifest, origin, guid string) error {
	made := ""
	for _, m := range chain {
		if m.BaseGUID != made || m.Origin != origin {
			return fmt.Errorf("stream %s builds on %q of %s, and there is %q of %s", m.ID, m.BaseGUID, m.Origin, made, origin)
		}
		in, err := repo.Read(ctx, m, nil)
		if err != nil {
			return err
		}
		got, err := io.ReadAll(in)
		_ = in.Close()
		if err != nil {
			return err
		}
		if !bytes.Equal(got, streamOf(origin, m.BaseGUID, m.GUID)) {
			return fmt.Errorf("stream %s gives other bytes than the storage sent", m.ID)
		}
		made = m.GUID
	}
	if made != guid {
		return fmt.Errorf("the chain makes snapshot %q, not %q", made, guid)
	}
	return nil
}
