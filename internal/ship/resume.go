package ship

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"snapd/internal/point"

	"golang.org/x/sync/errgroup"
)

// errSpoilt says that something lies where the stream's manifest has to lie:
// the stream begins anew, under another name.
var errSpoilt = errors.New("what lies at the manifest's key cannot be used")

// resume finds out what of an earlier attempt is still there.
func (u *upload) resume(ctx context.Context) (how func(*upload) string, committed *Stream, err error) {
	if !u.record.resumed() {
		return func(*upload) string { return "" }, nil, nil
	}
	// The earlier attempt may have died after its commit. Its manifest is asked
	// for by its exact keys: no listing could say that it is not there.
	for _, key := range u.record.commits(u.ref.Key) {
		m, err := u.repo.Manifest(ctx, StreamRef{Key: key})
		switch {
		case errors.Is(err, ErrNotFound):
			continue
		case errors.Is(err, ErrDamaged), errors.Is(err, ErrSignature):
			return nil, nil, fmt.Errorf("an earlier attempt was committed: %w: %w", errSpoilt, err)
		case err != nil:
			return nil, nil, fmt.Errorf("an earlier attempt was committed: %w", err)
		}
		return nil, &Stream{
			StreamRef: m.StreamRef, SentBytes: m.SentBytes, StoredBytes: m.StoredBytes, Segments: m.Segments,
			Reused: m.Segments, Resumed: "it was complete already", Digest: m.Digest.String(),
		}, nil
	}
	if err := u.prove(ctx); err != nil {
		return nil, nil, fmt.Errorf("look for what an earlier attempt uploaded: %w", err)
	}
	return (*upload).how, nil, nil
}

// provedAtOnce is how many segments are fetched at a time to be hashed.
const provedAtOnce = 4

// prove keeps of what was recorded only what the store proves to have. A name
// and a size are no proof of what is in an object: its ETag, as the store told
// it when it took the segment, is one, and so is the digest of what it gives.
func (u *upload) prove(ctx context.Context) error {
	r, rec := u.repo, u.record
	found, err := r.listSegments(ctx, rec.head.Stream)
	if err != nil {
		return err
	}
	var mu sync.Mutex
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(provedAtOnce)
	for n, d := range rec.done {
		if d.storedBytes == 0 || gctx.Err() != nil {
			continue
		}
		if f, ok := found[nameOf(n, d.object)]; ok && d.etag != [16]byte{} && f.etag == d.etag && f.size == int64(d.storedBytes) {
			continue
		}
		g.Go(func() error {
			ok, err := r.proveOne(gctx, segmentKey(rec.head.Stream, n, d.object), d)
			if err == nil && !ok {
				mu.Lock()
				defer mu.Unlock()
				rec.done[n].storedBytes = 0
			}
			return err
		})
	}
	return g.Wait()
}

// proveOne asks for one segment that a listing did not prove.
func (r *Repository) proveOne(ctx context.Context, key string, d done) (bool, error) {
	if d.etag != [16]byte{} {
		o, err := statObject(ctx, r.store, key)
		switch {
		case errors.Is(err, ErrNotFound):
			return false, nil
		case err != nil:
			return false, err
		case o.Size != int64(d.storedBytes):
			return false, nil
		case shortETag(o.ETag) == d.etag:
			return true, nil
		}
	}
	sum, _, err := hashObject(ctx, r.store, key, anyLength)
	if isDamage(err) {
		return false, nil
	}
	return sum == d.object, err
}

// Has tells whether a stream has a record here: one that is unfinished, or
// whose point has not been told of yet.
func (r *Records) Has(stream point.ID) bool {
	_, err := r.head(stream)
	return err == nil
}
