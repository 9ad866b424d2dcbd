package ship

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/klauspost/compress/zstd"
	"golang.org/x/sync/errgroup"
)

// readAhead is how many segments are fetched and opened while one is being
// read.
const readAhead = 2

// slot is what one segment needs on its way: up to twice a slice.
type slot struct {
	plain  []byte
	stored bytes.Buffer
	dec    *zstd.Decoder
}

func newSlot(slice int) (*slot, error) {
	dec, err := newDecoder()
	if err != nil {
		return nil, err
	}
	return &slot{plain: make([]byte, slice), dec: dec}, nil
}

// Read opens the plain stream of a manifest. A segment's bytes are delivered
// only after all of it was checked: the digest of the object, its length, the
// encryption, and the length of what was in it. The last Read returns io.EOF only if
// the stream is complete; a damaged segment is an error that names its object,
// with everything before it delivered and nothing of it. The caller closes the
// reader. ctx ends it.
func (r *Repository) Read(ctx context.Context, m *Manifest, report func(Progress)) (io.ReadCloser, error) {
	in, _, err := r.ReadFrom(ctx, m, 0, report)
	return in, err
}

// ReadFrom is Read from the segment on that holds the byte from of the stream,
// or the last one; at is the byte with which that begins. What comes before it
// is not fetched, and not reported.
func (r *Repository) ReadFrom(ctx context.Context, m *Manifest, from int64, report func(Progress)) (in io.ReadCloser, at int64, err error) {
	if !r.canUnseal() {
		return nil, 0, fmt.Errorf("read stream %s: %w", m.ID, ErrNoIdentity)
	}
	ctx, cancel := context.WithCancel(ctx)
	s := &streamReader{
		cancel: cancel, report: report,
		queue: make(chan chan opened, readAhead),
		free:  make(chan *slot, readAhead+1),
	}
	for range cap(s.free) {
		s.free <- nil // made when it is needed
	}
	first, at := segmentAt(m, from)
	s.work, ctx = errgroup.WithContext(ctx)
	s.work.Go(func() error {
		defer close(s.queue)
		return r.readAll(ctx, m, first, s)
	})
	return s, at, nil
}

// segmentAt is the segment that holds a byte of a stream, or the last one, and
// the byte with which it begins.
func segmentAt(m *Manifest, from int64) (n int, at int64) {
	for ; n < m.Segments-1; n++ {
		next := at + int64(sliceAt(n, m.SliceBytes))
		if next > from {
			break
		}
		at = next
	}
	return n, at
}

// opened is a segment that was checked, or why it was not.
type opened struct {
	segment
	slot *slot
	err  error
}

type streamReader struct {
	cancel context.CancelFunc
	work   *errgroup.Group
	queue  chan chan opened // in the order of the stream
	free   chan *slot

	report   func(Progress)
	progress Progress
	slot     *slot  // of current
	current  []byte // not yet delivered
	err      error
}

// readAll starts fetching the segments in order, from the first wanted.
func (r *Repository) readAll(ctx context.Context, m *Manifest, first int, s *streamReader) error {
	return r.eachSegment(ctx, m, func(seg segment) error {
		if seg.n < first {
			return nil
		}
		var sl *slot
		select {
		case sl = <-s.free:
		case <-ctx.Done():
			return ctx.Err()
		}
		if sl == nil {
			var err error
			if sl, err = newSlot(m.SliceBytes); err != nil {
				return err
			}
		}
		answer := make(chan opened, 1)
		select {
		case s.queue <- answer:
		case <-ctx.Done():
			return ctx.Err()
		}
		s.work.Go(func() error {
			answer <- opened{segment: seg, slot: sl, err: r.openSegment(ctx, seg, sl)}
			return nil // it is the reader's turn to say so, in order
		})
		return nil
	})
}

// openSegment fetches a segment, checks it and fills the slot with it.
func (r *Repository) openSegment(ctx context.Context, seg segment, sl *slot) error {
	if err := r.fetchSegment(ctx, seg, &sl.stored); err != nil {
		return err
	}
	if err := unseal(sl.plain[:seg.Plain], sl.stored.Bytes(), sl.dec, r.identities); err != nil {
		return fmt.Errorf("segment %s: %w", seg.key, err)
	}
	return nil
}

// fetchSegment fetches a segment and checks what can be checked without an
// identity.
func (r *Repository) fetchSegment(ctx context.Context, seg segment, stored *bytes.Buffer) error {
	stored.Grow(int(seg.Stored) + bytes.MinRead)
	if err := fetch(ctx, r.store, seg.key, seg.Stored, stored); err != nil {
		return err
	}
	if int64(stored.Len()) != seg.Stored {
		return fmt.Errorf("segment %s: %w: %d bytes long, signed for %d", seg.key, ErrDamaged, stored.Len(), seg.Stored)
	}
	if d := digestOf(stored.Bytes()); d != seg.Digest {
		return fmt.Errorf("segment %s: %w: its SHA-256 is %s, signed for %s", seg.key, ErrDamaged, d, seg.Digest)
	}
	return nil
}

// checkSegment is fetchSegment for a caller that wants nothing of it.
func (r *Repository) checkSegment(ctx context.Context, seg segment) error {
	sum, size, err := hashObject(ctx, r.store, seg.key, seg.Stored)
	switch {
	case err != nil:
		return err
	case size != seg.Stored:
		return fmt.Errorf("segment %s: %w: %d bytes long, signed for %d", seg.key, ErrDamaged, size, seg.Stored)
	case sum != seg.Digest:
		return fmt.Errorf("segment %s: %w: its SHA-256 is %s, signed for %s", seg.key, ErrDamaged, sum, seg.Digest)
	}
	return nil
}

func (s *streamReader) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, s.err
	}
	for len(s.current) == 0 && s.err == nil {
		s.err = s.advance()
	}
	if len(s.current) == 0 {
		return 0, s.err
	}
	n := copy(p, s.current)
	s.current = s.current[n:]
	return n, nil
}

// advance makes the next segment the current one.
func (s *streamReader) advance() error {
	if s.slot != nil {
		s.free <- s.slot
		s.slot = nil
	}
	answer, ok := <-s.queue
	if !ok {
		// All were handed out, or handing out failed: only the former may
		// look like an end.
		if err := s.work.Wait(); err != nil {
			return fmt.Errorf("read the stream: %w", noEOF(err))
		}
		return io.EOF
	}
	seg := <-answer
	if seg.err != nil {
		return noEOF(seg.err)
	}
	s.slot, s.current = seg.slot, seg.slot.plain[:seg.Plain]
	s.progress.Segments++
	s.progress.SentBytes += seg.Plain
	s.progress.StoredBytes += seg.Stored
	if s.report != nil {
		s.report(s.progress)
	}
	return nil
}

// noEOF keeps an error from being taken for the end of a stream by a caller
// that asks with errors.Is.
func noEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return fmt.Errorf("%w: %s", ErrDamaged, err.Error())
	}
	return err
}

// Close may be called twice and at any time between Reads.
func (s *streamReader) Close() error {
	s.cancel()
	_ = s.work.Wait() // whatever it was, the reader was told or did not want to know
	if s.err == nil {
		s.err = errors.New("read from a closed stream")
	}
	s.current = nil
	return nil
}
