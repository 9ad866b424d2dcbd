package ship

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"snapd/internal/point"
)

// Junk are the problems of a view that RemoveJunk can do something about: of
// objects that no record of ours needs and that are none of ours.
func (v *View) Junk() []Problem {
	return slices.DeleteFunc(slices.Clone(v.Problems), func(p Problem) bool { return !v.isJunk(p) })
}

func (v *View) isJunk(p Problem) bool {
	if p.Kind == KindUnknown {
		return true
	}
	if p.Kind != KindDamaged {
		return false
	}
	if n, ok := parseNumbered(prefixPoints, p.Object); ok {
		return v.junk[n]
	}
	if n, ok := parseNumbered(prefixLedger, p.Object); ok {
		_, read := v.events[n]
		return !read && (n >= v.nextEvent() || v.passedOver(n))
	}
	// Of a stream that a point needs, the manifest is damaged; that is no junk.
	s, ok := parseStreamKey(p.Object)
	return ok && (!v.needed[s.ID] || v.streams[s.ID].Key != p.Object)
}

// RemoveJunk deletes objects that Junk named, each after another look at it:
// what verifies now, or what a record needs, stays and is an error. The numbers
// of points below the highest that hold nothing then are written down as gone.
func (r *Repository) RemoveJunk(ctx context.Context, v *View, keys []string) error {
	if err := r.checkWritable(); err != nil {
		return fmt.Errorf("remove junk: %w", err)
	}
	junk := v.Junk()
	if err := r.skipEvents(ctx, v, keys); err != nil {
		return fmt.Errorf("remove junk: %w", err)
	}
	var numbers []int64
	// What lies below a folder in place of an object goes before that.
	for _, key := range slices.Backward(slices.Sorted(slices.Values(keys))) {
		i := slices.IndexFunc(junk, func(p Problem) bool { return p.Object == key })
		if i < 0 {
			return fmt.Errorf("remove junk: %s was not found to be any", key)
		}
		if err := r.stillJunk(ctx, junk[i]); err != nil {
			return fmt.Errorf("remove junk: %w", err)
		}
		if err := r.store.Delete(ctx, key); err != nil {
			return fmt.Errorf("remove junk under %s: %w", key, err)
		}
		if n, ok := parseNumbered(prefixPoints, key); ok && n <= v.Highest() {
			numbers = append(numbers, n)
		}
	}
	if len(numbers) == 0 {
		return nil
	}
	return r.Absent(ctx, v, numbers)
}

// stillJunk fetches what is about to be deleted once more.
func (r *Repository) stillJunk(ctx context.Context, p Problem) error {
	if p.Kind == KindUnknown {
		return nil // its key says it, whatever it holds
	}
	var err error
	if n, ok := parseNumbered(prefixPoints, p.Object); ok {
		_, _, _, err = r.fetchPoint(ctx, n)
	} else if n, ok := parseNumbered(prefixLedger, p.Object); ok {
		_, _, err = r.fetchEvent(ctx, n)
	} else if s, ok := parseStreamKey(p.Object); ok {
		_, _, _, err = r.fetchManifest(ctx, s)
		if err == nil {
			return nil // signed, and beside the one that records name
		}
	}
	switch {
	case err == nil:
		return fmt.Errorf("%s verifies now: %w", p.Object, ErrExists)
	case isDamage(err) || errors.Is(err, ErrNotFound):
		return nil
	}
	return err
}

// Gone are the numbers of points that nothing explains and that a Get just now
// did not find, with what is known of those that were read once.
func (r *Repository) Gone(ctx context.Context, v *View) (numbers []int64, err error) {
	for _, p := range v.Problems {
		n, ok := parseNumbered(prefixPoints, p.Object)
		if !ok || p.Kind != KindMissing && p.Kind != KindRolledBack {
			continue
		}
		there, err := r.exists(ctx, p.Object)
		if err != nil {
			return nil, fmt.Errorf("ask for what is gone: %w", err)
		}
		if !there && !slices.Contains(numbers, n) {
			numbers = append(numbers, n)
		}
	}
	return numbers, nil
}

// OtherRecipients are the streams of kept points, by point, that can be opened
// by others than the recipients that are configured now, as far as it is known:
// streams of format 1 do not tell. mixed are points that no single set of
// recipients opens, because a stream and one that it builds on differ.
func (r *Repository) OtherRecipients(v *View) (other, mixed []point.ID) {
	ours := r.RecipientsTag()
	for _, p := range v.Points {
		foreign, differ := false, false
		for _, s := range p.Streams {
			tags := v.recipientsBelow(s.Stream)
			foreign = foreign || slices.ContainsFunc(tags, func(tag string) bool { return tag != ours })
			differ = differ || len(slices.Compact(tags)) > 1
		}
		if foreign {
			other = append(other, p.ID)
		}
		if differ {
			mixed = append(mixed, p.ID)
		}
	}
	return other, mixed
}

// recipientsBelow are the tags of a stream and of those that it builds on, from
// the newest down, without those of format 1, which have none.
func (v *View) recipientsBelow(id point.ID) (tags []string) {
	for steps := 0; id != "" && steps <= maxDepth; steps++ {
		ref, ok := v.Stream(id)
		if !ok {
			break
		}
		if ref.Recipients != "" {
			tags = append(tags, ref.Recipients)
		}
		id = ref.Base
	}
	return tags
}

// NotedDamaged tells whether the ledger calls a stream damaged, so that every
// host knows it.
func (v *View) NotedDamaged(stream point.ID) bool { return v.notedIll()[stream] }

// Explains tells whether a signed record says that the point or event under a
// key is there or was removed.
func (v *View) Explains(key string) bool {
	if n, ok := parseNumbered(prefixPoints, key); ok {
		_, gone := v.explained[n]
		return gone
	}
	if n, ok := parseNumbered(prefixLedger, key); ok {
		return v.givenUp[n] || v.passedOver(n)
	}
	return false
}
