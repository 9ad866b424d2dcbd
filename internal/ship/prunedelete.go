package ship

import (
	"context"
	"errors"
	"slices"

	"snapd/internal/point"
)

// deleteAll deletes what is on record as gone: the points first, then stream
// by stream, those that build on others before these.
func (p *prune) deleteAll(ctx context.Context) error {
	if err := p.deletePoints(ctx); err != nil {
		return err
	}
	for _, id := range p.removable() {
		if err := p.deleteStream(ctx, id); err != nil {
			return err
		}
	}
	if err := p.delete(ctx, p.extra); err != nil {
		return err
	}
	if p.o.DryRun {
		return nil
	}
	return p.view.cache.flush()
}

func (p *prune) deletePoints(ctx context.Context) error {
	v := p.view
	var gone []Object
	for n, d := range v.explained {
		if key := pointKey(n); !d.IsZero() && p.mayLie(key) {
			gone = append(gone, Object{Key: key, Size: v.sizeOf(n)})
		}
	}
	if p.o.DryRun {
		for _, rec := range p.going {
			gone = append(gone, Object{Key: pointKey(rec.Number), Size: rec.size})
		}
	}
	if err := p.delete(ctx, gone); err != nil || p.o.DryRun {
		return err
	}
	for _, o := range gone {
		v.letGo(o.Key)
	}
	return nil
}

// sizeOf is how long the object of a point is, 0 of one that was not read.
func (v *View) sizeOf(number int64) int64 {
	if p, ok := v.points[number]; ok {
		return p.size
	}
	return 0
}

// mayLie tells whether what was removed by record under a key may lie there still.
func (p *prune) mayLie(key string) bool {
	v := p.view
	if v.left[key] {
		return true
	}
	if v.cache == nil {
		return v.fresh[key]
	}
	return !v.cache.isGone(key)
}

// letGo remembers that nothing lies under a key any more.
func (v *View) letGo(key string) {
	delete(v.left, key)
	delete(v.fresh, key)
	v.cache.letGo(key)
}

// removable are the streams to delete, those that build on others first.
func (p *prune) removable() []point.ID {
	v := p.view
	var out []point.ID
	for id := range v.removed {
		if !p.keep[id] && p.mayLie(v.lyingUnder(id)) {
			out = append(out, id)
		}
	}
	if p.o.DryRun {
		out = append(out, p.goes()...)
		for _, id := range p.stray {
			if !p.keep[id] {
				out = append(out, id)
			}
		}
	}
	slices.Sort(out)
	out = slices.Compact(out)
	slices.Reverse(out)
	return out
}

// lyingUnder is the manifest's key, or the folder of a stream that has none.
func (v *View) lyingUnder(id point.ID) string {
	if s := v.streams[id]; s.Key != "" {
		return s.Key
	}
	return dataPrefix(id)
}

// deleteStream deletes the segments that a manifest names, then its parts,
// then the manifest, so that what a crash leaves is found by it.
func (p *prune) deleteStream(ctx context.Context, id point.ID) error {
	v := p.view
	ref, known := v.streams[id]
	if !known || ref.Key == "" {
		if err := p.deleteStray(ctx, id); err != nil || p.o.DryRun {
			return err
		}
		v.letGo(dataPrefix(id))
		return nil
	}
	if told, ok := p.told(id); ok && p.o.DryRun && len(p.pruned.Streams) >= dryReads {
		p.wouldDelete(told)
		return nil
	}
	m, err := p.repo.Manifest(ctx, ref)
	if errors.Is(err, ErrNotFound) {
		v.letGo(ref.Key)
		return nil
	}
	if isDamage(err) {
		// What it named is not known; but all of this stream was removed by record.
		if err := p.deleteStray(ctx, id); err != nil {
			return err
		}
		return p.deleteManifest(ctx, ref)
	}
	if err != nil {
		return err
	}
	if err := p.deleteRows(ctx, m); err != nil {
		return err
	}
	p.pruned.Streams = append(p.pruned.Streams, id)
	ref.Size = m.Size
	return p.deleteManifest(ctx, ref)
}

// told is what the points that go say of a stream.
func (p *prune) told(id point.ID) (PointStream, bool) {
	if p.says == nil {
		p.says = map[point.ID]PointStream{}
		for _, rec := range p.going {
			for _, s := range rec.Streams {
				p.says[s.Stream] = s
			}
		}
	}
	s, ok := p.says[id]
	return s, ok
}

// dryReads is of how many streams a dry run reads the manifests.
const dryReads = 32

// wouldDelete counts what a signed point says that a stream has. That is all
// but the bytes of the manifest itself, of which a dry run of very many streams
// does without: reading ten thousand takes minutes.
func (p *prune) wouldDelete(s PointStream) {
	parts := (s.Segments - 1) / rowsPerPart
	p.pruned.Streams = append(p.pruned.Streams, s.Stream)
	p.pruned.Objects += s.Segments + parts + 1
	p.pruned.Bytes += s.StoredBytes
}

func (p *prune) deleteManifest(ctx context.Context, ref StreamRef) error {
	if err := p.delete(ctx, []Object{{Key: ref.Key, Size: ref.Size}}); err != nil || p.o.DryRun {
		return err
	}
	p.view.letGo(ref.Key)
	return nil
}

func (p *prune) deleteRows(ctx context.Context, m *Manifest) error {
	n := 0
	rows := func(rows []Row) error {
		objects := make([]Object, 0, len(rows))
		for _, row := range rows {
			objects = append(objects, Object{Key: segmentKey(m.ID, n, row.Digest), Size: row.Stored})
			n++
		}
		return p.delete(ctx, objects)
	}
	var parts []Object
	for k, part := range m.parts {
		list, size, err := p.repo.part(ctx, m, k, part)
		switch {
		case errors.Is(err, ErrNotFound) && p.view.removed[m.ID] > 0:
			n += part.Segments // a prune that died deleted what it named, and then it
			continue
		case isDamage(err):
			if err := p.deleteStray(ctx, m.ID); err != nil {
				return err
			}
			n += part.Segments
			continue
		case err != nil:
			return err
		}
		if err := rows(list); err != nil {
			return err
		}
		parts = append(parts, Object{Key: partKey(m.ID, k, part.Digest), Size: size})
	}
	if err := rows(m.rows); err != nil {
		return err
	}
	return p.delete(ctx, parts)
}

// deleteStray deletes all that is listed of a stream that was removed by record and has no
// manifest that could name it.
func (p *prune) deleteStray(ctx context.Context, id point.ID) error {
	var objects []Object
	seen := map[string]bool{}
	err := p.repo.store.List(ctx, dataPrefix(id), func(o Object) error {
		if stream, ok := streamOfData(o.Key); ok && stream == id && !seen[o.Key] {
			seen[o.Key] = true
			objects = append(objects, o)
		}
		return nil
	})
	if err != nil {
		return err
	}
	return p.delete(ctx, objects)
}
