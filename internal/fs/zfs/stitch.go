package zfs

import (
	"bufio"
	"errors"
	"fmt"
	"io"
)

// stitched is the rest of a stream, made from what zfs send -t gives: its own
// beginning and what the first part already has are dropped, and the running
// checksum goes on from the first part, so that first part and rest are one
// stream, byte for byte the one that was never interrupted.
type stitched struct {
	theirs recordReader // what the sender says
	sum    fletcher     // of the stream that is being made
	follow walker       // follows the stream that is being made, up to p.at
	guid   uint64

	out   []byte // of the current record, not read yet
	ended bool
	err   error
}

// stitch reads the sender's words up to the place where the first part ends,
// and compares everything on the way: a raw stream with records missing would
// be received without a complaint. The result is at byte p.at of the stream.
func stitch(from io.Reader, p place, guid, base uint64) (*stitched, error) {
	s := &stitched{theirs: recordReader{from: bufio.NewReaderSize(from, 256<<10)}, sum: p.anchor.sum, guid: guid}
	if err := s.begin(p, base); err != nil {
		return nil, err
	}
	if err := s.skipTo(p.anchor); err != nil {
		return nil, err
	}
	s.follow = walker{offset: p.anchor.end, sum: p.anchor.sum, began: true, begin: s.theirs.walk.begin, anchor: p.anchor}
	if err := s.skipBytes(p); err != nil {
		return nil, err
	}
	return s, nil
}

// begin compares the second BEGIN with the first.
func (s *stitched) begin(p place, base uint64) error {
	if _, err := s.theirs.next(); err != nil {
		return err
	}
	b := &s.theirs.walk.begin
	switch {
	case b.toGUID() != s.guid || b.fromGUID() != base:
		return fmt.Errorf("the sender goes on with snapshot %d on %d, not %d on %d", b.toGUID(), b.fromGUID(), s.guid, base)
	case b.features()&featureResuming == 0:
		return errors.New("the sender begins anew")
	case beginSum(*b) != p.begin:
		return errors.New("the sender goes on with a stream of another kind")
	}
	return nil
}

// skipTo drops all through the anchor's record.
func (s *stitched) skipTo(a anchor) error {
	for {
		payload, err := s.theirs.next()
		if err != nil {
			return fmt.Errorf("look for where the first part ends: %w", err)
		}
		if s.theirs.head.kind() == kindEnd {
			return errors.New("the sender does not repeat the record at which the first part ends")
		}
		h := &s.theirs.head
		if h.canAnchor() && h.object() == a.object && h.offset() == a.offset && s.recordIs(payload, a.record) {
			return nil
		}
	}
}

func (s *stitched) recordIs(payload []byte, want fletcher) bool {
	sum := fletcherOf(s.theirs.head[:storedSum])
	sum.add(payload)
	return sum == want
}

// skipBytes drops what of the records after the anchor the first part has.
func (s *stitched) skipBytes(p place) error {
	for left := p.at - p.anchor.end; left > 0; {
		if err := s.fill(); err != nil {
			if errors.Is(err, io.EOF) {
				err = errors.New("it has less than the first part")
			}
			return fmt.Errorf("compare the rest of the stream with the first part: %w", err)
		}
		n := int(min(left, int64(len(s.out))))
		if _, err := s.follow.Write(s.out[:n]); err != nil {
			return err
		}
		s.out = s.out[n:]
		left -= int64(n)
	}
	if s.follow.here() != p.here {
		return errors.New("the sender does not repeat what the first part has")
	}
	return nil
}

// fill makes the next record the current one, with the checksums that it has
// in the whole stream.
func (s *stitched) fill() error {
	if len(s.out) > 0 {
		return nil
	}
	if s.ended {
		return s.theirs.end()
	}
	payload, err := s.theirs.next()
	if err != nil {
		return err
	}
	s.ended = s.theirs.head.kind() == kindEnd
	s.out = s.theirs.stamped(&s.sum, payload)
	return nil
}

func (s *stitched) Read(p []byte) (int, error) {
	if s.err == nil {
		s.err = s.fill()
	}
	if s.err != nil {
		return 0, s.err
	}
	n := copy(p, s.out)
	s.out = s.out[n:]
	return n, nil
}
