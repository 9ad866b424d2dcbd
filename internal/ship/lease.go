package ship

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"snapd/internal/point"
)

const (
	// leaseEvery is how often a lease is renewed.
	leaseEvery = 10 * time.Minute
	// leaseEveryKept is for a host that may not delete: each renewal leaves an
	// object behind.
	leaseEveryKept = 24 * time.Hour
	// leaseTries bounds the search for a count that is free. The step doubles,
	// so that it passes a year of renewals.
	leaseTries = 20
)

// leaseCounts are the leases that this process holds, by stream.
type leaseCounts struct {
	mu       sync.Mutex
	count    map[point.ID]int
	finished map[point.ID]leaseDoc // of streams that are uploaded, while others of their point are not
}

// finish says that a stream is uploaded, and waits for its point.
func (l *leaseCounts) finish(doc leaseDoc) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.finished == nil {
		l.finished = map[point.ID]leaseDoc{}
	}
	l.finished[doc.Stream] = doc
}

// waiting are the streams that wait for their point.
func (l *leaseCounts) waiting() []leaseDoc {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Collect(maps.Values(l.finished))
}

// renewed notes the newest lease of a stream that still waits.
func (l *leaseCounts) renewed(doc leaseDoc) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if _, waits := l.finished[doc.Stream]; waits {
		l.finished[doc.Stream] = doc
	}
}

// end says that a stream waits no more.
func (l *leaseCounts) end(stream point.ID) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.finished, stream)
}

func (l *leaseCounts) set(stream point.ID, count int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.count == nil {
		l.count = map[point.ID]int{}
	}
	l.count[stream] = count
}

func (l *leaseCounts) take(stream point.ID) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	count := l.count[stream]
	delete(l.count, stream)
	return count
}

// lease says of one upload that it is alive. It belongs to one goroutine.
type lease struct {
	repo   *Repository
	doc    leaseDoc
	record *record // of the upload; nil: it is not continued
	kept   bool    // this host may not delete older ones
}

// beginLease puts the first lease of an upload, or the next one of an upload
// that is continued, and removes the ones before.
func (r *Repository) beginLease(ctx context.Context, stream, base point.ID, host string, rec *record) (*lease, error) {
	r.held.end(stream)
	l := &lease{repo: r, record: rec, doc: leaseDoc{
		header: header{Format: formatVersion, Type: typeLease, Repository: r.ID},
		Stream: stream, Base: optional(base), Host: host,
	}}
	var older []string
	if last := rec.leased(); last > 0 || rec.continued() {
		var err error
		if older, err = r.leaseKeys(ctx, stream); err != nil {
			return nil, err
		}
		// A listing may hide what the record knows of.
		l.doc.Count = last
		if key := leaseKey(stream, last); last > 0 && !slices.Contains(older, key) {
			older = append(older, key)
		}
		for _, key := range older {
			_, count, _ := parseLeaseKey(key)
			l.doc.Count = max(l.doc.Count, count)
		}
	}
	if err := l.put(ctx); err != nil {
		return nil, err
	}
	l.remove(ctx, older)
	return l, nil
}

// put puts the next lease.
func (l *lease) put(ctx context.Context) error {
	l.repo.held.take(l.doc.Stream) // until it is known which one lies there
	doc := l.doc
	doc.Time = time.Now().UTC() // informs, and decides nothing
	step, older := 1, false
	for range leaseTries {
		doc.Count += step
		step *= 2
		if err := doc.check(); err != nil {
			return fmt.Errorf("lease of stream %s: %w", doc.Stream, err)
		}
		key := leaseKey(doc.Stream, doc.Count)
		object, err := sign(l.repo.signer, typeLease, l.repo.ID, key, &doc)
		if err != nil {
			return err
		}
		l.record.leasing(doc.Count)
		_, err = putOnce(ctx, l.repo.store, key, object)
		if errors.Is(err, ErrExists) {
			older = true
			continue // of an earlier attempt, and no listing showed it
		}
		if err != nil {
			return fmt.Errorf("put the lease of stream %s: %w", doc.Stream, err)
		}
		l.doc = doc
		if !older { // else EndLease lists them
			l.repo.held.set(doc.Stream, doc.Count)
		}
		return nil
	}
	return fmt.Errorf("put the lease of stream %s: %w up to number %d", doc.Stream, ErrExists, doc.Count)
}

// remove removes older leases. They do no harm, so that it is no error when
// they stay; a host without the right to delete renews more rarely.
func (l *lease) remove(ctx context.Context, keys []string) {
	for _, key := range keys {
		if err := l.repo.store.Delete(ctx, key); err != nil {
			l.kept = errors.Is(err, ErrDenied)
			l.repo.held.take(l.doc.Stream) // more than one lies there
			return
		}
	}
}

// renew renews the lease until the context ends. What goes wrong stops
// nothing: an upload does not end because its lease is old, and the next
// renewal tries again.
func (l *lease) renew(ctx context.Context) {
	for {
		every := leaseEvery
		if l.kept {
			every = leaseEveryKept
		}
		timer := time.NewTimer(every)
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-timer.C:
		}
		l.next(ctx)
		// The other streams of the same point, which it cannot have yet: this one may
		// take longer than a lease counts.
		for _, doc := range l.repo.held.waiting() {
			other := &lease{repo: l.repo, doc: doc, kept: l.kept}
			other.next(ctx)
			l.repo.held.renewed(other.doc)
		}
	}
}

// next puts the next lease in place of the last one.
func (l *lease) next(ctx context.Context) {
	before := leaseKey(l.doc.Stream, l.doc.Count)
	if err := l.put(ctx); err == nil {
		l.remove(ctx, []string{before})
	}
}

// keepLease renews the lease in a goroutine of its own until done is called,
// which waits for it.
func (l *lease) keepLease(ctx context.Context) (done func()) {
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	wg.Go(func() { l.renew(ctx) })
	return func() {
		cancel()
		wg.Wait()
		l.repo.held.finish(l.doc)
	}
}

// EndLease removes the leases of a stream. It is for a host that has put the
// point that names the stream, or has given the stream up: until then a lease
// is what keeps it. One that is not there is no error, and neither is that this
// host may not delete: a prune sees that the stream has its point.
func (r *Repository) EndLease(ctx context.Context, stream point.ID) error {
	r.held.end(stream)
	var keys []string
	if count := r.held.take(stream); count > 0 {
		keys = []string{leaseKey(stream, count)} // the ones before it are gone
	} else {
		var err error
		if keys, err = r.leaseKeys(ctx, stream); err != nil {
			return err
		}
	}
	for _, key := range keys {
		if err := r.store.Delete(ctx, key); err != nil && !errors.Is(err, ErrDenied) {
			return fmt.Errorf("end the lease of stream %s: %w", stream, err)
		}
	}
	return nil
}

func (r *Repository) leaseKeys(ctx context.Context, stream point.ID) (keys []string, err error) {
	err = r.store.List(ctx, prefixLeases+string(stream)+".", func(o Object) error {
		if id, _, ok := parseLeaseKey(o.Key); ok && id == stream {
			keys = append(keys, o.Key)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("list the leases of stream %s: %w", stream, err)
	}
	return keys, nil
}
