package ship

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"snapd/internal/point"

	"golang.org/x/sync/errgroup"
)

// askedAtOnce is how many objects are asked for at a time when a listing lacks
// them.
const askedAtOnce = 8

// segmentName is what tells the segments of a stream apart, as their keys do:
// small, because a long stream has a hundred thousand of them.
type segmentName struct {
	n      uint32
	digest [8]byte // the first bytes of it
}

func nameOf(n int, d Digest) segmentName {
	return segmentName{n: uint32(n), digest: [8]byte(d[:8])}
}

func parseSegmentName(name string) (segmentName, bool) {
	number, digits, ok := strings.Cut(name, "-")
	n, err := strconv.ParseUint(number, 10, 32)
	var s segmentName
	if !ok || err != nil || len(number) != 8 || len(digits) != 2*len(s.digest) {
		return s, false
	}
	s.n = uint32(n)
	_, err = hex.Decode(s.digest[:], []byte(digits))
	return s, err == nil
}

// listed is what one listing says of the segments of a stream. It proves
// nothing by what it lacks.
type listed struct {
	size int64
	etag [16]byte // shortened; zero when there is none
}

func (r *Repository) listSegments(ctx context.Context, stream point.ID) (map[segmentName]listed, error) {
	found := map[segmentName]listed{}
	prefix := dataPrefix(stream)
	err := listAnew(ctx, r.store, prefix, func() { clear(found) }, func(o Object) error {
		if name, ok := parseSegmentName(strings.TrimPrefix(o.Key, prefix)); ok {
			found[name] = listed{size: o.Size, etag: shortETag(o.ETag)}
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("list what stream %s has: %w", stream, err)
	}
	return found, nil
}

// shortETag keeps of an ETag what a comparison needs.
func shortETag(etag string) (short [16]byte) {
	if etag != "" {
		sum := digestOf([]byte(etag))
		copy(short[:], sum[:])
	}
	return short
}

// lack is an object of a stream that is not there as its manifest says.
type lack struct {
	key string
	why string
}

// lacks compares a manifest with one listing of its data, by name and size.
// What the listing lacks, or has in another size, is asked for by its name
// before anything is concluded. A part of the manifest that cannot be used
// ends the comparison, and is the last of what is lacking.
func (r *Repository) lacks(ctx context.Context, m *Manifest) ([]lack, error) {
	found, err := r.listSegments(ctx, m.ID)
	if err != nil {
		return nil, err
	}
	var lacking []lack
	results := make(chan lack)
	collected := make(chan struct{})
	go func() {
		defer close(collected)
		for l := range results {
			lacking = append(lacking, l)
		}
	}()
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(askedAtOnce)
	err = r.eachSegment(gctx, m, func(s segment) error {
		if f, ok := found[nameOf(s.n, s.Digest)]; ok && f.size == s.Stored {
			return nil
		}
		g.Go(func() error {
			why, err := r.ask(gctx, s)
			if why != "" && err == nil {
				results <- lack{s.key, why}
			}
			return err
		})
		return gctx.Err()
	})
	gerr := g.Wait()
	close(results)
	<-collected
	switch {
	case gerr != nil:
		return nil, gerr
	case isDamage(err):
		return append(lacking, lack{m.Key, err.Error()}), nil
	case err != nil:
		return nil, err
	}
	return lacking, nil
}

// ask asks for a segment that a listing does not show as it should be, and says
// why it cannot be used, "" if it can. Only what Get gives is believed.
func (r *Repository) ask(ctx context.Context, s segment) (why string, err error) {
	o, err := statObject(ctx, r.store, s.key)
	if err == nil && o.Size == s.Stored {
		return "", nil
	}
	if err == nil {
		var sum Digest
		if sum, o.Size, err = hashObject(ctx, r.store, s.key, anyLength); err == nil && sum == s.Digest {
			return "", nil
		}
	}
	switch {
	case errors.Is(err, ErrNotFound):
		return "it is missing", nil
	case err != nil:
		return "", err
	}
	return fmt.Sprintf("it has %d bytes instead of %d", o.Size, s.Stored), nil
}
