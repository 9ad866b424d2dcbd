package ship

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"snapd/internal/point"
)

// readStreams reads the manifests that signed records do not tell enough of,
// and asks for those that a listing lacks.
func (l *looker) readStreams(ctx context.Context) error {
	v := l.v
	for key, o := range l.listed {
		if s, ok := parseStreamKey(key); ok {
			s.Size, s.Time = o.Size, o.Time
			l.streams[s.ID] = append(l.streams[s.ID], s)
		}
	}
	for round := 0; round <= maxDepth; round++ {
		v.settle()
		l.late = false
		var vague []point.ID
		for _, id := range sortedIDs(v.needed) {
			if s := v.streams[id]; s.Key == "" && !l.asked[prefixStreams+string(id)] {
				vague = append(vague, id)
			}
		}
		if len(vague) == 0 {
			break
		}
		for _, id := range vague {
			l.asked[prefixStreams+string(id)] = true
			l.late = true
			if _, err := l.resolve(ctx, id); err != nil {
				return err
			}
		}
	}
	if v.look == Known {
		return nil
	}
	return l.confirm(ctx)
}

// resolve finds the manifest of a stream whose key no signed record tells. A
// listing names candidates, and their signatures decide. problem is why none
// of them is it.
func (l *looker) resolve(ctx context.Context, id point.ID) (problem, err error) {
	v := l.v
	candidates := l.streams[id]
	if v.look == Known {
		err := l.repo.store.List(ctx, prefixStreams+string(id)+".", func(o Object) error {
			if s, ok := parseStreamKey(o.Key); ok && s.ID == id {
				s.Size, s.Time = o.Size, o.Time
				candidates = append(candidates, s)
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	said := v.streams[id]
	problem = fmt.Errorf("its manifest is %w in a listing, and no signed record tells its key", ErrNotFound)
	for _, c := range candidates {
		err := l.manifest(ctx, c)
		if err == nil {
			if f := v.found[id]; !said.Digest.IsZero() && f.Digest != said.Digest {
				err = fmt.Errorf("manifest %s: %w: it is not the one that the point names", c.Key, ErrDamaged)
				delete(v.found, id)
			} else {
				return nil, nil
			}
		}
		if !isDamage(err) {
			return nil, err
		}
		problem = err
	}
	v.missing[id] = noted{Stream: id, Object: prefixStreams + string(id), Problem: clip(problem.Error(), maxProblem)}
	return problem, nil
}

// manifest reads one, and remembers what it says of the stream.
func (l *looker) manifest(ctx context.Context, ref StreamRef) error {
	l.asked[ref.Key], l.late = true, true
	doc, digest, size, err := l.repo.fetchManifest(ctx, ref)
	if err != nil {
		return err
	}
	got := doc.ref()
	got.Digest, got.Size, got.Time = digest, size, ref.Time
	l.v.found[got.ID] = got
	l.v.cache.add(got.Key, digest, size, doc.stripped())
	return nil
}

// confirm asks for each needed manifest that was not listed, and looks at each
// that was listed and that no signed record tells of.
func (l *looker) confirm(ctx context.Context) error {
	v := l.v
	for _, id := range sortedIDs(v.needed) {
		s := v.streams[id]
		o, listed := l.listed[s.Key]
		if s.Key == "" || l.asked[s.Key] {
			continue
		}
		if listed {
			s.Time = o.Time
			if f, ok := v.found[id]; ok && !f.Time.Equal(o.Time) {
				f.Time = o.Time
				v.found[id] = f
				l.late = true
			}
			continue
		}
		err := l.manifest(ctx, s)
		switch {
		case err == nil && v.found[id].Digest != s.Digest && !s.Digest.IsZero():
			err = fmt.Errorf("manifest %s: %w: it is not the one that the point names", s.Key, ErrDamaged)
			delete(v.found, id)
		case err == nil:
			l.hidden(s.Key)
			continue
		}
		if !isDamage(err) {
			return err
		}
		v.missing[id] = noted{Stream: id, Object: s.Key, Problem: clip(err.Error(), maxProblem)}
	}
	return nil
}

// leftovers looks at what is listed and no kept record explains.
func (l *looker) leftovers(ctx context.Context) error {
	v := l.v
	if v.look == Known {
		return nil
	}
	for _, key := range slices.Sorted(maps.Keys(l.listed)) {
		if n, ok := parseNumbered(prefixPoints, key); ok {
			if d, gone := v.explained[n]; gone && !d.IsZero() {
				v.left[key] = true
			}
			continue
		}
		if s, ok := parseStreamKey(key); ok {
			if err := l.leftStream(ctx, s); err != nil {
				return err
			}
			continue
		}
		if isKnownKey(key) {
			continue
		}
		there, err := l.repo.exists(ctx, key)
		if err != nil {
			return err
		}
		if there {
			l.late = true
			v.met = append(v.met, Problem{Object: key, Problem: "no version of the format explains this key", Points: []point.ID{}, Kind: KindUnknown})
		}
	}
	l.noteGone()
	return nil
}

func (l *looker) leftStream(ctx context.Context, s StreamRef) error {
	v := l.v
	known, told := v.streams[s.ID]
	if told && known.Key == s.Key {
		if _, gone := v.removed[s.ID]; gone {
			v.left[s.Key] = true
		}
		return nil
	}
	if l.asked[s.Key] {
		return nil // it was read already: whole, or reported
	}
	s.Time = l.listed[s.Key].Time
	err := l.manifest(ctx, s)
	switch {
	case err == nil && told:
		// Two manifests of one stream do not occur; the one that records name
		// is the one that counts.
		delete(v.found, s.ID)
		err = fmt.Errorf("manifest %s: %w: stream %s has another one", s.Key, ErrDamaged, s.ID)
	case err == nil:
		if _, gone := v.removed[s.ID]; gone {
			v.left[s.Key] = true // an event removed it by record without knowing its manifest
		}
		return nil
	case errors.Is(err, ErrNotFound):
		return nil
	case !isDamage(err):
		return err
	}
	v.met = append(v.met, Problem{Object: s.Key, Problem: err.Error(), Points: []point.ID{}})
	return nil
}

// noteGone remembers what was removed by record and is not listed any more, so that it is
// not asked for again. A later listing that names it adds it again.
func (l *looker) noteGone() {
	v := l.v
	for n, d := range v.explained {
		if key := pointKey(n); !d.IsZero() && !v.left[key] && !v.cache.isGone(key) {
			v.cache.letGo(key)
		}
	}
	for id := range v.removed {
		if key := v.streams[id].Key; key != "" && !v.left[key] && !v.cache.isGone(key) {
			v.cache.letGo(key)
		}
	}
}

// exists asks for an object by name.
func (r *Repository) exists(ctx context.Context, key string) (bool, error) {
	if err := CheckKey(key); err != nil {
		return true, nil //nolint:nilerr // no store can be asked for it, so that its listing has to be believed
	}
	body, err := r.store.Get(ctx, key)
	if errors.Is(err, ErrNotFound) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	return true, body.Close()
}
