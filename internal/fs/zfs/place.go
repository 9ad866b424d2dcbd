package zfs

import (
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
)

// place is what has to be known of the first part of a stream to go on with
// it: where the sender can take up, and what it will say there.
type place struct {
	at       int64    // bytes of the stream that are safe; goes on from there
	here     fletcher // running checksum at that byte
	anchor   anchor   // last record at or before it from which the sender can go on
	begin    fletcher // of the stream's BEGIN, less what differs when it is resumed
	features uint64
}

const (
	placeVersion = 1
	placeSize    = 1 + 8*3 + 8 + fletcherSize*4
)

// place returns the place at the byte that the walker took last, "" when the
// sender could not go on from there.
func (w *walker) place() string {
	if w.anchor.end == 0 || w.ended || w.offset%4 != 0 {
		return ""
	}
	return place{at: w.offset, here: w.here(), anchor: w.anchor, begin: beginSum(w.begin), features: w.begin.features()}.String()
}

// String is short, because a record has one for each segment.
func (p place) String() string {
	b := make([]byte, placeSize)
	b[0] = placeVersion
	for i, n := range []uint64{uint64(p.anchor.end), p.anchor.object, p.anchor.offset, p.features} {
		binary.LittleEndian.PutUint64(b[1+8*i:], n)
	}
	for i, sum := range []fletcher{p.here, p.anchor.sum, p.anchor.record, p.begin} {
		sum.put(b[33+fletcherSize*i:])
	}
	return base64.RawStdEncoding.EncodeToString(b)
}

// parsePlace reads what String made, for byte at of the stream.
func parsePlace(text string, at int64) (place, error) {
	b, err := base64.RawStdEncoding.DecodeString(text)
	if err != nil || len(b) != placeSize || b[0] != placeVersion {
		return place{}, errors.New("what was written down about the stream is of another version")
	}
	n := func(i int) uint64 { return binary.LittleEndian.Uint64(b[1+8*i:]) }
	sum := func(i int) fletcher { return getFletcher(b[33+fletcherSize*i:]) }
	p := place{
		at: at, here: sum(0), begin: sum(3), features: n(3),
		anchor: anchor{end: int64(n(0)), object: n(1), offset: n(2), sum: sum(1), record: sum(2)},
	}
	if p.anchor.end <= headSize || p.anchor.end > at || p.anchor.object == 0 {
		return place{}, fmt.Errorf("what was written down about the stream does not fit byte %d", at)
	}
	return p, nil
}

// beginSum is the checksum of a BEGIN without what changes when the stream is
// resumed: the flag that says so, the payload's length, and the name, since
// the snapshot may have been renamed.
func beginSum(h head) fletcher {
	binary.LittleEndian.PutUint32(h[4:], 0)
	binary.LittleEndian.PutUint64(h[16:], binary.LittleEndian.Uint64(h[16:])&^(featureResuming<<2))
	clear(h[56:])
	return fletcherOf(h[:])
}
