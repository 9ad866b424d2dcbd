package ship

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"snapd/internal/point"
)

// leaseAge is how long a lease that is not renewed holds against a user that
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
// names is not looked into: of it they are only counted, because a repository has
// millions of them.
func (r *Repository) orphans(ctx context.Context, v *View, keep map[point.ID]bool, each func(stream point.ID, manifest bool, o Object)) error {
	counts := map[point.ID]int{} // of streams with a manifest
	strays := map[point.ID]map[string]Object{}
	begin := func() {
		clear(counts)
		clear(strays)
	}
	err := listAnew(ctx, r.store, prefixData, begin, func(o Object) error {
		id, ok := streamOfData(o.Key)
		if !ok {
			return nil
		}
		_, known := v.streams[id]
		_, removed := v.removed[id]
		switch {
		case known && !removed:
			counts[id]++
		case !keep[id] && strays[id] == nil:
			strays[id] = map[string]Object{o.Key: o}
		case !keep[id]:
			strays[id][o.Key] = o
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("list the data: %w", err)
	}
	for id, list := range strays {
		for _, key := range slices.Sorted(maps.Keys(list)) {
			each(id, false, list[key])
		}
	}
	for id, n := range counts {
		ref := v.streams[id]
		if _, ill := v.ill[id]; ill || n == ref.objects() {
			continue
		}
		if err := r.beside(ctx, ref, func(o Object) { each(id, true, o) }); err != nil {
			return err
		}
	}
	return nil
}

// objects is how many lie below data/ for a stream: its segments, and the parts of
// its manifest but the first.
func (s StreamRef) objects() int { return s.Segments + (s.Segments-1)/rowsPerPart }

// beside picks the objects of a stream that its manifest does not name: slices
// that a later attempt replaced.
func (r *Repository) beside(ctx context.Context, ref StreamRef, each func(Object)) error {
	objects := map[string]Object{} // a listing may repeat one
	err := r.store.List(ctx, prefixData+string(ref.ID)+"/", func(o Object) error {
		objects[o.Key] = o
		return nil
	})
	if err != nil {
		return fmt.Errorf("list the data of stream %s: %w", ref.ID, err)
	}
	if len(objects) == ref.objects() {
		return nil
	}
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
	for _, key := range slices.Sorted(maps.Keys(objects)) {
		if err == nil && !named[key] {
			each(objects[key])
		}
	}
	return err
}

// findOrphans looks for what no signed record explains.
func (p *prune) findOrphans(ctx context.Context) error {
	strays := map[point.ID]bool{}
	err := p.repo.orphans(ctx, p.view, p.keep, func(id point.ID, manifest bool, o Object) {
		p.pruned.Orphans.add(o)
		_, removed := p.view.removed[id]
		switch {
		case manifest, removed && !p.mayLie(p.view.lyingUnder(id)):
			p.extra = append(p.extra, o) // nothing else would find it
		case !removed:
			strays[id] = true
		}
	})
	if err != nil {
		return err
	}
	named := p.view.allNamed()
	for id, ref := range p.view.found {
		if _, removed := p.view.removed[id]; !removed && !p.keep[id] && !named[id] {
			p.pruned.Orphans.add(Object{Key: ref.Key, Size: ref.Size})
			strays[id] = true
		}
	}
	p.stray = sortedIDs(strays)
	return nil
}

// allNamed are the streams that any point names, kept or not.
func (v *View) allNamed() map[point.ID]bool {
	out := map[point.ID]bool{}
	for _, rec := range v.points {
		for _, s := range rec.Streams {
			out[s.Stream] = true
		}
	}
	for _, e := range v.events {
		for _, d := range e.Drop {
			for _, s := range d.Streams {
				out[s.Stream] = true
			}
		}
	}
	return out
}

// readStoreClock finds the newest time that the store itself has written.
func (p *prune) readStoreClock(ctx context.Context) error {
	newer := func(o Object) error {
		if o.Time.After(p.storeNow) {
			p.storeNow = o.Time
		}
		return nil
	}
	for _, prefix := range []string{prefixLeases, prefixLedger, prefixPoints} {
		if err := p.repo.store.List(ctx, prefix, newer); err != nil {
			return fmt.Errorf("ask for the store's clock: %w", err)
		}
	}
	return nil
}

// living leaves out leases that were not renewed for a week, by the store's
// clock alone, where a person said that nothing is shipping.
func (p *prune) living(leases []Lease) []Lease {
	return slices.DeleteFunc(leases, func(l Lease) bool {
		return p.o.Orphans && !l.PutTime.IsZero() && p.storeNow.Sub(l.PutTime) >= leaseAge
	})
}
