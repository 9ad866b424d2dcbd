package zfsstream

import (
	"bufio"
	"errors"
	"fmt"
	"io"
)

// Stitched is the rest of a stream, made from what zfs send -t gives: its own
// beginning and what the first part already has are dropped, and the running
// checksum goes on from the first part, so that first part and rest are one
// stream, byte for byte the one that was never interrupted.
type Stitched struct {
	theirs recordReader // what the sender says
	sum    fletcher     // of the stream that is being made
	Follow Walker       // follows the stream that is being made, up to p.at
	guid   uint64

	out   []byte // of the current record, not read yet
	ended bool
	err   error
}

// Stitch reads the sender's words up to the position where the first part ends,
// and compares everything on the way: a raw stream with records missing would
// be received without a complaint. The result is at byte p.at of the stream.
func Stitch(from io.Reader, p Position, guid, base uint64) (*Stitched, error) {
	s := &Stitched{theirs: recordReader{from: bufio.NewReaderSize(from, 256<<10)}, sum: p.Anchor.sum, guid: guid}
	if err := s.begin(p, base); err != nil {
		return nil, err
	}
	if err := s.skipTo(p.Anchor); err != nil {
		return nil, err
	}
	s.Follow = Walker{Offset: p.Anchor.End, sum: p.Anchor.sum, Began: true, Begin: s.theirs.walk.Begin, anchor: p.Anchor}
	if err := s.skipBytes(p); err != nil {
		return nil, err
	}
	return s, nil
}

// begin compares the second BEGIN with the first.
func (s *Stitched) begin(p Position, base uint64) error {
	if _, err := s.theirs.next(); err != nil {
		return err
	}
	b := &s.theirs.walk.Begin
	switch {
	case b.ToGUID() != s.guid || b.FromGUID() != base:
		return fmt.Errorf("the sender goes on with snapshot %d on %d, not %d on %d", b.ToGUID(), b.FromGUID(), s.guid, base)
	case b.Features()&featureResuming == 0:
		return errors.New("the sender begins anew")
	case beginSum(*b) != p.begin:
		return errors.New("the sender goes on with a stream of another kind")
	}
	return nil
}

// skipTo drops all through the anchor's record.
func (s *Stitched) skipTo(a anchor) error {
	for {
		payload, err := s.theirs.next()
		if err != nil {
			return fmt.Errorf("look for where the first part ends: %w", err)
		}
		if s.theirs.head.Kind() == KindEnd {
			return errors.New("the sender does not repeat the record at which the first part ends")
		}
		h := &s.theirs.head
		if h.canAnchor() && h.Object() == a.Object && h.offset() == a.Offset && s.recordIs(payload, a.record) {
			return nil
		}
	}
}

func (s *Stitched) recordIs(payload []byte, want fletcher) bool {
	sum := fletcherOf(s.theirs.head[:StoredSum])
	sum.add(payload)
	return sum == want
}

// skipBytes drops what of the records after the anchor the first part has.
func (s *Stitched) skipBytes(p Position) error {
	for left := p.at - p.Anchor.End; left > 0; {
		if err := s.fill(); err != nil {
			if errors.Is(err, io.EOF) {
				err = errors.New("it has less than the first part")
			}
			return fmt.Errorf("compare the rest of the stream with the first part: %w", err)
		}
		n := int(min(left, int64(len(s.out))))
		if _, err := s.Follow.Write(s.out[:n]); err != nil {
			return err
		}
		s.out = s.out[n:]
		left -= int64(n)
	}
	if s.Follow.here() != p.here {
		return errors.New("the sender does not repeat what the first part has")
	}
	return nil
}

// fill makes the next record the current one, with the checksums that it has
// in the whole stream.
func (s *Stitched) fill() error {
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
	s.ended = s.theirs.head.Kind() == KindEnd
	s.out = s.theirs.stamped(&s.sum, payload)
	return nil
}

func (s *Stitched) Read(p []byte) (int, error) {
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
