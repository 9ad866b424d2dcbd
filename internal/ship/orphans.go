package ship

import (
	"context"
	"fmt"
	"strings"
	"time"

	"snapd/internal/point"
)

// leaseAge is how long a lease that is not renewed holds against a person who
// says that nothing is shipping, by the store's clock.
const leaseAge = 7 * 24 * time.Hour

// maxExamples is how many keys of orphans are told.
const maxExamples = 5

func (o *Orphans) add(object Object) {
	o.Objects++
	o.Bytes += object.Size
	if len(o.Examples) < maxExamples {
		o.Examples = append(o.Examples, object.Key)
	}
}

// streamOfData is the stream that a key below data/ belongs to.
func streamOfData(key string) (point.ID, bool) {
	name, below := strings.CutPrefix(key, prefixData)
	id, rest, slash := strings.Cut(name, "/")
	return point.ID(id), below && slash && rest != "" && parseStored(point.ID(id)) == nil
}

// orphans goes through one listing of data/ and calls each for what neither a
// manifest nor keep explains. A stream with as many objects as its manifest
// names is not looked into.
func (r *Repository) orphans(ctx context.Context, v *View, keep map[point.ID]bool, each func(stream point.ID, manifest bool, o Object)) error {
	objects := map[point.ID][]Object{}
	seen := map[string]bool{}
	err := r.store.List(ctx, prefixData, func(o Object) error {
		if id, ok := streamOfData(o.Key); ok && !seen[o.Key] {
			seen[o.Key] = true
			objects[id] = append(objects[id], o)
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("list the data: %w", err)
	}
	for id, list := range objects {
		ref, known := v.streams[id]
		_, removed := v.removed[id]
		_, ill := v.ill[id]
		switch {
		case known && !removed && (ill || len(list) == ref.Segments+(ref.Segments-1)/rowsPerPart):
			continue
		case known && !removed:
			if err := r.beside(ctx, ref, list, func(o Object) { each(id, true, o) }); err != nil {
				return err
			}
		case !keep[id]:
			for _, o := range list {
				each(id, false, o)
			}
		}
	}
	return nil
}

// beside picks the objects of a stream that its manifest does not name: slices
// that a later attempt replaced.
func (r *Repository) beside(ctx context.Context, ref StreamRef, objects []Object, each func(Object)) error {
	m, err := r.Manifest(ctx, ref)
	if isDamage(err) {
		return nil // damage is not found here
	}
	if err != nil {
		return err
	}
	named := map[string]bool{}
	for k, part := range m.parts {
		named[partKey(m.ID, k, part.Digest)] = true
	}
	err = r.eachSegment(ctx, m, func(s segment) error {
		named[s.key] = true
		return nil
	})
	if isDamage(err) {
		return nil
	}
	for _, o := range objects {
		if err == nil && !named[o.Key] {
			each(o)
		}
	}
	return err
}

// findOrphans looks for what no signed record explains.
func (p *prune) findOrphans(ctx context.Context) error {
	if err := p.passOldLeases(ctx); err != nil {
		return err
	}
	strays := map[point.ID]bool{}
	err := p.repo.orphans(ctx, p.view, p.keep, func(id point.ID, manifest bool, o Object) {
		p.pruned.Orphans.add(o)
		if manifest {
			p.extra = append(p.extra, o)
		} else {
			strays[id] = true
		}
	})
	if err != nil {
		return err
	}
	for id := range p.view.found {
		if !p.keep[id] && !p.named(id) {
			strays[id] = true
		}
	}
	p.stray = sortedIDs(strays)
	return nil
}

// named tells whether a point, kept or not, names a stream.
func (p *prune) named(id point.ID) bool {
	if _, removed := p.view.removed[id]; removed {
		return true
	}
	for _, rec := range p.view.points {
		for _, s := range rec.Streams {
			if s.Stream == id {
				return true
			}
		}
	}
	for _, e := range p.view.events {
		for _, d := range e.Drop {
			for _, s := range d.Streams {
				if s.Stream == id {
					return true
				}
			}
		}
	}
	return false
}

// passOldLeases leaves leases out of account that were not renewed for a week.
// Both times are of the store's clock: that of a lease, and that of the newest
// lease or event.
func (p *prune) passOldLeases(ctx context.Context) error {
	now := time.Time{}
	newer := func(o Object) error {
		if o.Time.After(now) {
			now = o.Time
		}
		return nil
	}
	for _, prefix := range []string{prefixLeases, prefixLedger, prefixPoints} {
		if err := p.repo.store.List(ctx, prefix, newer); err != nil {
			return err
		}
	}
	living := p.leases[:0:0]
	for _, l := range p.leases {
		if l.PutTime.IsZero() || now.Sub(l.PutTime) < leaseAge {
			living = append(living, l)
		}
	}
	p.leases = living
	return p.mark()
}
