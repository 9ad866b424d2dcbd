package ship

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"snapd/internal/point"

	"golang.org/x/sync/errgroup"
)

// PruneOptions say what a prune may do.
type PruneOptions struct {
	Now    time.Time
	DryRun bool       // tell, and delete nothing
	Keep   []point.ID // streams being uploaded and their bases, see Records.Keep
	// Orphans also looks through data/ for what has neither manifest nor living
	// lease, and deletes it: when a person says that nothing else is shipping.
	Orphans bool
	// Told says that a person named the points: then the newest of a group may
	// go too. Never all of them, and no pinned one.
	Told bool
}

// Pruned is what a prune removed, or would have.
type Pruned struct {
	Points  []point.ID
	Streams []point.ID
	Objects int     // all that were deleted
	Bytes   int64   // of them
	Orphans Orphans // found below data/, when that was asked for
	// Problems kept the prune from removing streams and segments: a damaged
	// point or manifest may need any of them.
	Problems []Problem
}

// Orphans are objects that no signed record explains.
type Orphans struct {
	Objects  int
	Bytes    int64
	Examples []string // a few keys
}

const (
	defaultGrace = 24 * time.Hour
	pruneDeletes = 8 // at once
)

// Prune removes points, then the streams that no remaining point needs, then
// segments that belong to no stream. It never removes all points, nor the
// newest. It may be repeated: what a crash leaves, the next prune removes. One
// prune at a time; uploads may run beside it.
func (r *Repository) Prune(ctx context.Context, _ *View, drop []point.ID, o PruneOptions) (Pruned, error) {
	if o.Now.IsZero() {
		return Pruned{}, errors.New("prune: it must be told what time it is")
	}
	if err := r.checkWritable(); err != nil {
		return Pruned{}, fmt.Errorf("prune: %w", err)
	}
	p := &prune{repo: r, o: o, drop: map[point.ID]bool{}, keep: map[point.ID]bool{}, expect: map[point.ID]int{}}
	for _, id := range drop {
		p.drop[id] = true
	}
	if err := p.run(ctx); err != nil {
		return p.pruned, fmt.Errorf("prune: %w", err)
	}
	return p.pruned, nil
}

type prune struct {
	repo   *Repository
	o      PruneOptions
	drop   map[point.ID]bool
	keep   map[point.ID]bool // streams
	expect map[point.ID]int  // objects below data/ of a stream that points name

	mu     sync.Mutex
	pruned Pruned
}

func (p *prune) run(ctx context.Context) error {
	index, err := p.repo.Index(ctx)
	if err != nil {
		return err
	}
	points, problems, err := p.readPoints(ctx, index)
	if err != nil {
		return err
	}
	if err := p.deletePoints(ctx, index, points); err != nil {
		return err
	}
	if len(problems) > 0 {
		// Two keys for deleting: what a point that cannot be read needs is
		// unknown, so nothing below points goes.
		p.pruned.Problems = problems
		return nil
	}
	p.mark(index, points)
	if err := p.deleteStreams(ctx, index); err != nil {
		return err
	}
	return p.deleteOrphans(ctx, index)
}

// readPoints needs no identity, and must see a point twice that was put twice.
func (p *prune) readPoints(ctx context.Context, index *Index) ([]*PointRecord, []Problem, error) {
	all := make([]*PointRecord, len(index.Points))
	bad := make([]error, len(index.Points))
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(pointFetches)
	for i, ref := range index.Points {
		g.Go(func() error {
			rec, err := p.repo.point(gctx, ref, false)
			if isDamage(err) {
				bad[i] = err
				return nil
			}
			all[i] = rec
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return nil, nil, err
	}
	var problems []Problem
	for i, err := range bad {
		if err != nil {
			problems = append(problems, Problem{Object: index.Points[i].Key, Problem: err.Error(), Points: []point.ID{}})
		}
	}
	return slices.DeleteFunc(all, func(r *PointRecord) bool { return r == nil }), problems, nil
}

func (p *prune) deletePoints(ctx context.Context, index *Index, points []*PointRecord) error {
	var gone []Object
	for _, rec := range points {
		if !p.drop[rec.ID] {
			continue
		}
		if rec.Number == index.highest() {
			return fmt.Errorf("point %s is the newest of the repository: it is never removed", rec.ID)
		}
		i := slices.IndexFunc(index.Points, func(ref PointRef) bool { return ref.Number == rec.Number })
		gone = append(gone, Object{Key: index.Points[i].Key, Size: index.Points[i].Size})
		if !slices.Contains(p.pruned.Points, rec.ID) {
			p.pruned.Points = append(p.pruned.Points, rec.ID)
		}
	}
	if len(gone) > 0 && len(gone) >= len(index.Points) {
		return errors.New("it would remove every point: refused")
	}
	return p.delete(ctx, gone)
}

// mark finds the streams that stay.
func (p *prune) mark(index *Index, points []*PointRecord) {
	need := func(id point.ID) {
		for id != "" && !p.keep[id] {
			p.keep[id] = true
			ref, _ := index.Stream(id)
			id = ref.Base
		}
	}
	for _, rec := range points {
		if p.drop[rec.ID] {
			continue
		}
		for _, s := range rec.Streams {
			need(s.Stream)
			need(deref(s.Base))
			p.expect[s.Stream] = s.Segments + (s.Segments-1)/rowsPerPart
		}
	}
	for _, id := range p.o.Keep {
		need(id)
	}
	// A stream that was just committed has no point yet.
	for _, ref := range index.Streams {
		if p.young(ref.Time) || p.young(ref.ID.Time()) {
			need(ref.ID)
		}
	}
}

func (p *prune) young(t time.Time) bool { return p.o.Now.Sub(t) < defaultGrace }

// deleteStreams removes manifests and then what they list: a crash between
// leaves segments without a manifest, which deleteOrphans finds.
func (p *prune) deleteStreams(ctx context.Context, index *Index) error {
	var manifests, data []Object
	for _, ref := range index.Streams {
		if p.keep[ref.ID] {
			continue
		}
		if !slices.Contains(p.pruned.Streams, ref.ID) {
			p.pruned.Streams = append(p.pruned.Streams, ref.ID)
		}
		manifests = append(manifests, Object{Key: ref.Key, Size: ref.Size})
	}
	// Those that build on others go first, so that no chain is ever listed
	// whose base is gone.
	slices.Reverse(manifests)
	for _, m := range manifests {
		if err := p.delete(ctx, []Object{m}); err != nil {
			return err
		}
	}
	for _, id := range p.pruned.Streams {
		data = data[:0]
		err := p.repo.store.List(ctx, dataPrefix(id), func(o Object) error {
			data = append(data, o)
			return nil
		})
		if err == nil {
			err = p.delete(ctx, data)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// deleteOrphans removes segments that no manifest lists: of uploads that were
// given up, of prunes that died, of slices that a second attempt replaced.
func (p *prune) deleteOrphans(ctx context.Context, index *Index) error {
	var stream point.ID
	var objects []Object
	flush := func() error {
		if len(objects) == 0 {
			return nil
		}
		orphans, err := p.orphans(ctx, index, stream, objects)
		objects = objects[:0]
		if err != nil {
			return err
		}
		return p.delete(ctx, orphans)
	}
	err := p.repo.store.List(ctx, prefixData, func(o Object) error {
		name, _, _ := strings.Cut(strings.TrimPrefix(o.Key, prefixData), "/")
		if id := point.ID(name); id != stream {
			if err := flush(); err != nil {
				return err
			}
			stream = id
		}
		objects = append(objects, o)
		return nil
	})
	if err != nil {
		return err
	}
	return flush()
}

// orphans picks from all the objects of one stream those that nothing needs.
func (p *prune) orphans(ctx context.Context, index *Index, stream point.ID, objects []Object) ([]Object, error) {
	if slices.Contains(p.o.Keep, stream) || parseStored(stream) != nil || slices.Contains(p.pruned.Streams, stream) {
		return nil, nil //nolint:nilerr // a name that is no id of ours stays
	}
	listed := map[string]bool{}
	if ref, ok := index.Stream(stream); ok {
		if len(objects) == p.expect[stream] {
			return nil, nil // nothing beside what the manifest lists
		}
		m, err := p.repo.Manifest(ctx, ref)
		if err == nil {
			for k, part := range m.parts {
				listed[partKey(m.ID, k, part.Digest)] = true
			}
			err = p.repo.eachSegment(ctx, m, func(s segment) error {
				listed[s.key] = true
				return nil
			})
		}
		if isDamage(err) {
			p.pruned.Problems = append(p.pruned.Problems, Problem{Object: ref.Key, Problem: err.Error(), Points: []point.ID{}})
			return nil, nil
		}
		if err != nil {
			return nil, err
		}
	}
	var orphans []Object
	for _, o := range objects {
		if !listed[o.Key] && !p.young(o.Time) && !p.young(stream.Time()) {
			orphans = append(orphans, o)
		}
	}
	return orphans, nil
}

func (p *prune) delete(ctx context.Context, objects []Object) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(pruneDeletes)
	for _, o := range objects {
		g.Go(func() error {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			if !p.o.DryRun {
				if err := p.repo.store.Delete(ctx, o.Key); err != nil {
					return fmt.Errorf("delete %s: %w", o.Key, err)
				}
			}
			p.mu.Lock()
			defer p.mu.Unlock()
			p.pruned.Objects++
			p.pruned.Bytes += o.Size
			return nil
		})
	}
	return g.Wait()
}
