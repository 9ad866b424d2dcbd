package ship

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"snapd/internal/advice"
	"snapd/internal/point"
)

// fetchEvent fetches and verifies the event at a number.
func (r *Repository) fetchEvent(ctx context.Context, number int64) (event, int64, error) {
	key := eventKey(number)
	doc := &eventDoc{}
	digest, size, err := r.signedObject(ctx, typeEvent, key, doc)
	if err != nil {
		return event{}, 0, err
	}
	err = checkHeader(doc.header, typeEvent, r.ID)
	if err == nil {
		err = doc.check()
	}
	if err == nil && doc.Number != number {
		err = fmt.Errorf("it is number %d", doc.Number)
	}
	if err != nil {
		return event{}, 0, fmt.Errorf("event %s: %w: %w", key, ErrDamaged, err)
	}
	return event{doc, digest}, size, nil
}

// refresh reads the events that were put since the view was made.
func (r *Repository) refresh(ctx context.Context, v *View) (news []event, err error) {
	for n, junk := v.nextEvent(), 0; junk < maxJunk; n++ {
		e, size, err := r.fetchEvent(ctx, n)
		switch {
		case errors.Is(err, ErrNotFound):
			if len(news) > 0 {
				v.settle()
				v.freshen(news...)
			}
			return news, nil
		case isDamage(err):
			v.unread[n] = true
			junk++
			continue
		case err != nil:
			return news, err
		}
		v.events[n] = e
		v.cache.add(eventKey(n), e.digest, size, e.eventDoc)
		news = append(news, e)
	}
	v.settle()
	v.freshen(news...)
	return news, nil
}

// freshen remembers what events removed by record just now: no listing can tell it.
func (v *View) freshen(news ...event) {
	for _, e := range news {
		for _, d := range e.Drop {
			v.fresh[pointKey(d.Number)] = true
		}
		for _, id := range slices.Concat(e.Remove, e.Abandon) {
			v.fresh[v.lyingUnder(id)] = true
		}
	}
}

// eventTries is how often a number may be taken by another process before a
// writer gives up.
const eventTries = 10

// putEvent puts what decide says at the next number. When another process was
// faster, its event is read and decide is asked again. decide returns nil when
// there is nothing to say.
func (r *Repository) putEvent(ctx context.Context, v *View, decide func() (*eventBody, error)) error {
	if err := r.checkWritable(); err != nil {
		return err
	}
	number, tries, junk := v.nextEvent(), 0, 0
	for tries < eventTries && junk < maxJunk {
		body, err := decide()
		if err != nil || body == nil || body.empty() {
			return err
		}
		doc := &eventDoc{
			header: header{Format: formatVersion, Type: typeEvent, Repository: r.ID},
			Number: number, Previous: v.newestEvent(), Points: v.newestPoint(), Time: time.Now().UTC(), Host: r.host, eventBody: *body,
		}
		if err := doc.check(); err != nil {
			return fmt.Errorf("put event %d: %w", number, err)
		}
		object, err := sign(r.signer, typeEvent, r.ID, eventKey(number), doc)
		if err != nil {
			return fmt.Errorf("put event %d: %w", number, err)
		}
		there, err := putOnce(ctx, r.store, eventKey(number), object)
		if err == nil {
			v.events[number] = event{doc, digestOf(object)}
			v.cache.add(eventKey(number), digestOf(object), int64(len(object)), doc)
			v.settle()
			v.freshen(v.events[number])
			return errors.Join(v.cache.flush(), v.cache.noteSeen(v.newestPoint(), v.newestEvent()))
		}
		if !errors.Is(err, ErrExists) || there == nil {
			return fmt.Errorf("put event %d: %w", number, err)
		}
		top := v.top
		if _, err := r.refresh(ctx, v); err != nil {
			return fmt.Errorf("put event %d: %w", number, err)
		}
		if v.top > top {
			tries++
			number = v.nextEvent()
		} else { // no event of ours lies there
			junk++
			number++
		}
	}
	return advice.In(advice.Busy, fmt.Errorf("put event %d: other processes were faster, again and again: %w", number, ErrBusy))
}

// NoteDamage puts into the ledger what was found damaged or missing, so that
// every host knows it. What is noted already is not noted again. view is
// brought up to date.
func (r *Repository) NoteDamage(ctx context.Context, v *View, damage []Damage) error {
	told := map[point.ID]bool{}
	err := r.putEvent(ctx, v, func() (*eventBody, error) {
		var body eventBody
		known := v.notedIll()
		for _, d := range damage {
			told[d.Stream] = true
			if !known[d.Stream] {
				known[d.Stream] = true
				body.Damage = append(body.Damage, noted{Stream: d.Stream, Object: d.Object, Problem: clip(d.Problem, maxProblem)})
			}
		}
		return &body, nil
	})
	if err != nil {
		return fmt.Errorf("note damage: %w", err)
	}
	return v.cache.forgetDamage(told)
}

// notedIll are the streams that the ledger calls damaged, as a host reads it that
// remembers nothing: what only this host's memory has of an event has to be noted
// again.
func (v *View) notedIll() map[point.ID]bool {
	out := map[point.ID]bool{}
	for n := int64(1); n <= v.top; n++ {
		e, ok := v.events[n]
		if !ok || v.broken[n] {
			continue
		}
		for _, d := range e.Damage {
			out[d.Stream] = true
		}
		for _, id := range e.Whole {
			delete(out, id)
		}
	}
	return out
}

// NoteWhole puts into the ledger which damaged streams were found whole again.
func (r *Repository) NoteWhole(ctx context.Context, v *View, streams []point.ID) error {
	whole := map[point.ID]bool{}
	for _, id := range streams {
		whole[id] = true
	}
	err := r.putEvent(ctx, v, func() (*eventBody, error) {
		var body eventBody
		known := v.notedIll()
		for _, id := range sortedIDs(whole) {
			if _, removed := v.removed[id]; known[id] || removed {
				body.Whole = append(body.Whole, id)
			}
		}
		return &body, nil
	})
	if err != nil {
		return fmt.Errorf("note what is whole: %w", err)
	}
	for id := range whole {
		delete(v.missing, id)
	}
	v.settle()
	return v.cache.forgetDamage(whole)
}

// Pin keeps points whatever retention says, until Unpin. A point that is not
// kept is ErrNotFound.
func (r *Repository) Pin(ctx context.Context, v *View, ids []point.ID) error {
	err := r.putEvent(ctx, v, func() (*eventBody, error) {
		var body eventBody
		for _, id := range ids {
			if _, kept := v.Point(id); !kept {
				return nil, fmt.Errorf("point %s: %w in the repository", id, ErrNotFound)
			}
			if !v.Pinned(id) && !slices.Contains(body.Pin, id) {
				body.Pin = append(body.Pin, id)
			}
		}
		return &body, nil
	})
	if err != nil {
		return fmt.Errorf("pin: %w", err)
	}
	return nil
}

// Unpin ends Pin. One that is not pinned is no error.
func (r *Repository) Unpin(ctx context.Context, v *View, ids []point.ID) error {
	err := r.putEvent(ctx, v, func() (*eventBody, error) {
		var body eventBody
		for _, id := range ids {
			if v.Pinned(id) && !slices.Contains(body.Unpin, id) {
				body.Unpin = append(body.Unpin, id)
			}
		}
		return &body, nil
	})
	if err != nil {
		return fmt.Errorf("unpin: %w", err)
	}
	return nil
}

// Abandon says that uploads were given up by the host that began them: what
// they have put may go. A stream that a kept point needs is an error.
func (r *Repository) Abandon(ctx context.Context, v *View, streams []point.ID) error {
	err := r.putEvent(ctx, v, func() (*eventBody, error) {
		var body eventBody
		for _, id := range streams {
			if v.needed[id] {
				return nil, fmt.Errorf("stream %s: a point needs it", id)
			}
			if _, already := v.removed[id]; !already && !slices.Contains(body.Abandon, id) {
				body.Abandon = append(body.Abandon, id)
			}
		}
		return &body, nil
	})
	if err != nil {
		return fmt.Errorf("abandon: %w", err)
	}
	return nil
}

// Absent says of numbers that their points are gone for good. Each is asked
// for by name first; one under which anything lies is an error.
func (r *Repository) Absent(ctx context.Context, v *View, numbers []int64) error {
	for _, n := range numbers {
		there, err := r.exists(ctx, pointKey(n))
		if err != nil {
			return fmt.Errorf("write down what is gone: %w", err)
		}
		if there {
			return fmt.Errorf("write down what is gone: point number %d: %w", n, ErrExists)
		}
	}
	err := r.putEvent(ctx, v, func() (*eventBody, error) {
		var body eventBody
		for _, n := range numbers {
			if _, gone := v.explained[n]; !gone && !slices.Contains(body.Absent, n) {
				body.Absent = append(body.Absent, n)
			}
		}
		return &body, nil
	})
	if err != nil {
		return fmt.Errorf("write down what is gone: %w", err)
	}
	return nil
}

// Adopt says which host goes on with the points here: its opaque id.
func (r *Repository) Adopt(ctx context.Context, v *View, host string) error {
	err := r.putEvent(ctx, v, func() (*eventBody, error) {
		if v.Adopted() == host {
			return nil, nil
		}
		return &eventBody{Adopt: &adoptedHost{Host: host}}, nil
	})
	if err != nil {
		return fmt.Errorf("adopt: %w", err)
	}
	return nil
}
