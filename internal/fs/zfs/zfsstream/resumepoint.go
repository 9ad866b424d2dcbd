package zfsstream

import (
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
)

// Position is what has to be known of the first part of a stream to go on with
// it: where the sender can take up, and what it will say there.
type Position struct {
	at       int64    // bytes of the stream that are safe; goes on from there
	here     fletcher // running checksum at that byte
	Anchor   anchor   // last record at or before it from which the sender can go on
	begin    fletcher // of the stream's BEGIN, less what differs when it is resumed
	Features uint64
}

const (
	positionVersion = 1
	positionSize    = 1 + 8*3 + 8 + fletcherSize*4
)

// Position returns the position at the byte that the walker took last, "" when the
// sender could not go on from there.
func (w *Walker) Position() string {
	if w.anchor.End == 0 || w.Ended || w.Offset%4 != 0 {
		return ""
	}
	return Position{at: w.Offset, here: w.here(), Anchor: w.anchor, begin: beginSum(w.Begin), Features: w.Begin.Features()}.String()
}

// String is short, because a record has one for each segment.
func (p Position) String() string {
	b := make([]byte, positionSize)
	b[0] = positionVersion
	for i, n := range []uint64{uint64(p.Anchor.End), p.Anchor.Object, p.Anchor.Offset, p.Features} {
		binary.LittleEndian.PutUint64(b[1+8*i:], n)
	}
	for i, sum := range []fletcher{p.here, p.Anchor.sum, p.Anchor.record, p.begin} {
		sum.put(b[33+fletcherSize*i:])
	}
	return base64.RawStdEncoding.EncodeToString(b)
}

// ParsePosition reads what String made, for byte at of the stream.
func ParsePosition(text string, at int64) (Position, error) {
	b, err := base64.RawStdEncoding.DecodeString(text)
	if err != nil || len(b) != positionSize || b[0] != positionVersion {
		return Position{}, errors.New("what was written down about the stream is of another version")
	}
	n := func(i int) uint64 { return binary.LittleEndian.Uint64(b[1+8*i:]) }
	sum := func(i int) fletcher { return getFletcher(b[33+fletcherSize*i:]) }
	p := Position{
		at: at, here: sum(0), begin: sum(3), Features: n(3),
		Anchor: anchor{End: int64(n(0)), Object: n(1), Offset: n(2), sum: sum(1), record: sum(2)},
	}
	if p.Anchor.End <= HeadSize || p.Anchor.End > at || p.Anchor.Object == 0 {
		return Position{}, fmt.Errorf("what was written down about the stream does not fit byte %d", at)
	}
	return p, nil
}

// beginSum is the checksum of a BEGIN without what changes when the stream is
// resumed: the flag that says so, the payload's length, and the name, since
// the snapshot may have been renamed.
func beginSum(h Head) fletcher {
	binary.LittleEndian.PutUint32(h[4:], 0)
	binary.LittleEndian.PutUint64(h[16:], binary.LittleEndian.Uint64(h[16:])&^(featureResuming<<2))
	clear(h[56:])
	return fletcherOf(h[:])
}
