package zfsstream

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

const (
	// headPart is how much of a stream's beginning is looked at for the
	// object with which a receiver goes on: a volume has only one.
	headPart = 1 << 20
	// stepBack is how far before the position that a receiver names reading
	// begins: a few of the largest records.
	stepBack = 3 * maxBlock
)

// errPassed says that reading began after what was looked for.
var errPassed = errors.New("it does not have the position where the receiver wants to go on")

// Opener opens a stream that lies stored at the byte from or a little before;
// at is where it begins.
type Opener func(from int64) (r io.ReadCloser, at int64, err error)

// Rest is what zfs send -t would make of a snapshot, made from its stream as it
// lies stored: a BEGIN that says where it goes on, the object again, and what
// follows. It is the reverse of stitched. Only what is needed is read.
type Rest struct {
	Left
	source  io.Closer
	in      recordReader
	Begin   Head
	payload []byte   // of the stream's BEGIN
	opening [][]byte // the object with which it goes on, and what describes it
	ranges  []byte   // the last OBJECT_RANGE (raw streams), which the object needs

	sum   fletcher
	queue [][]byte // records that come before what in gives
	out   []byte   // of the current record, not read yet
	err   error
}

// RestOf opens the rest of a stream.
func RestOf(open Opener, l Left) (*Rest, error) {
	r := &Rest{Left: l}
	found, err := r.head(open)
	if err == nil && !found {
		err = r.seek(open)
	}
	if err == nil {
		err = r.start()
	}
	if err != nil {
		return nil, errors.Join(err, r.Close())
	}
	return r, nil
}

// start makes the BEGIN. No checksum is stored in it; all of it counts.
func (r *Rest) start() error {
	payload, err := addNative(r.payload, nativeUint64{"resume_object", r.object}, nativeUint64{"resume_offset", r.offset})
	if err != nil {
		return err
	}
	h := r.Begin
	binary.LittleEndian.PutUint32(h[4:], uint32(len(payload)))
	binary.LittleEndian.PutUint64(h[16:], h.u64(16)|featureResuming<<2)
	r.out = append(h[:], payload...)
	r.sum.add(r.out)
	r.queue = append(r.opening, r.queue...)
	return nil
}

// head reads the stream's beginning: its BEGIN, and perhaps the object.
func (r *Rest) head(open Opener) (found bool, err error) {
	if err := r.openAt(open, 0); err != nil {
		return false, err
	}
	payload, err := r.in.next()
	if err != nil {
		return false, err
	}
	r.Begin, r.payload = r.in.head, bytes.Clone(payload)
	if r.Begin.ToGUID() != r.ToGUID || r.Begin.FromGUID() != r.fromGUID {
		return false, fmt.Errorf("it makes snapshot %d on %d, and the receiver waits for %d on %d", r.Begin.ToGUID(), r.Begin.FromGUID(), r.ToGUID, r.fromGUID)
	}
	found, err = r.find(headPart, true)
	if errors.Is(err, errPassed) { // it would have been here
		return false, fmt.Errorf("object %d: %w", r.object, err)
	}
	return found, err
}

// seek reads from a little before the position, and from further before when the
// object began there.
func (r *Rest) seek(open Opener) error {
	for back := int64(stepBack); ; back *= 8 {
		from := max(0, int64(r.bytes)-back)
		if err := r.openAt(open, from); err != nil {
			return err
		}
		opening := r.opening
		found, err := r.find(0, from == 0)
		if found || err != nil && !errors.Is(err, errPassed) {
			return err
		}
		if from == 0 {
			return fmt.Errorf("object %d: %w", r.object, errPassed)
		}
		r.opening = opening
	}
}

// openAt goes to a byte of the stream, or a little before.
func (r *Rest) openAt(open Opener, from int64) error {
	if err := r.Close(); err != nil {
		return err
	}
	source, at, err := open(from)
	if err != nil {
		return err
	}
	r.source = source
	if at == 0 {
		r.in = recordReader{from: bufio.NewReaderSize(source, 256<<10)}
		return nil
	}
	return r.join(bufio.NewReaderSize(source, maxBlock+maxBonus), at)
}

// join finds the border of two records in the middle of a stream. Each record
// carries the snapshot's guid and the running checksum, so that one can be
// told, and the next one proves it.
func (r *Rest) join(from *bufio.Reader, at int64) error {
	for skipped := int64(0); skipped < 2*maxBlock; skipped += 4 {
		raw, err := from.Peek(HeadSize)
		if err != nil {
			return errPassed // at its end
		}
		h := Head(raw)
		if guid, there := h.guid(); there && guid == r.ToGUID && h.Kind() != KindEnd {
			if n, err := h.Payload(); err == nil && r.joinsHere(from, n) {
				w := r.walkFrom(at + skipped)
				_, err := io.CopyN(&w, from, int64(n)+HeadSize)
				r.in = recordReader{from: from, walk: w}
				return err
			}
		}
		if _, err := from.Discard(4); err != nil {
			return err
		}
	}
	return fmt.Errorf("no record begins in %d bytes from byte %d of it", 2*maxBlock, at)
}

// joinsHere tells whether a record of n bytes and another follow each other.
func (r *Rest) joinsHere(from *bufio.Reader, n int) bool {
	raw, err := from.Peek(HeadSize + n + HeadSize)
	if err != nil {
		return false
	}
	w := r.walkFrom(0)
	_, err = w.Write(raw)
	return err == nil
}

// walkFrom is a walker that is to be given a record whose checksum it believes.
func (r *Rest) walkFrom(at int64) Walker {
	return Walker{Offset: at, Began: true, Begin: r.Begin, believe: true}
}

// find reads up to the record with which the receiver goes on, through most
// bytes (0: all). On the way it keeps the object and what describes it. here
// says that the position cannot have been passed yet.
func (r *Rest) find(most int64, here bool) (bool, error) {
	for most == 0 || r.in.walk.Offset < most {
		payload, err := r.in.next()
		if err != nil {
			return false, err
		}
		found, before, err := r.look(payload, here)
		if found || err != nil {
			return found, err
		}
		here = here || before
	}
	return false, nil
}

// look takes the record that was read last: is it the position, or is it before it?
func (r *Rest) look(payload []byte, here bool) (found, before bool, err error) {
	h := &r.in.head
	switch k := h.Kind(); {
	case k == KindEnd, k == kindObject && h.Object() > r.object:
		return false, false, errPassed
	case k == kindObjectRange:
		r.ranges = bytes.Clone(h[:])
	case k == kindObject && h.Object() == r.object:
		if !r.open(payload) {
			return false, false, errPassed
		}
		return r.offset == 0, true, nil
	case k == kindObject, k == kindFreeObjects:
		return false, true, nil
	case h.Object() == r.object:
		found, err = r.inObject(payload, here)
		return found, k != kindSpill && h.Start() < r.offset, err
	}
	return false, false, nil
}

// inObject looks at a record of the object with which the receiver goes on.
func (r *Rest) inObject(payload []byte, here bool) (found bool, err error) {
	h := &r.in.head
	k := h.Kind()
	switch {
	case k != kindSpill && h.Start() < r.offset: // the receiver has it
	case k == kindWrite || k == kindWriteEmbedded:
		if h.Start() > r.offset && !here || len(r.opening) == 0 { // or its object comes before what was read
			return false, errPassed
		}
		r.queue = append(r.queue, r.in.record(payload))
		return true, nil
	case len(r.opening) > 0: // a FREE of its tail, a SPILL
		r.opening = append(r.opening, r.in.record(payload))
	}
	return false, nil
}

// open begins with an object. Of a raw stream the OBJECT_RANGE of its dnode block
// belongs to it: without that the receiver could not read what follows. It is
// false when that comes before what was read.
func (r *Rest) open(payload []byte) bool {
	r.opening = nil
	if r.Begin.Features()&FeatureRaw != 0 {
		if !covers(r.ranges, r.object) {
			return false
		}
		r.opening = append(r.opening, r.ranges)
	}
	r.opening = append(r.opening, r.in.record(payload))
	return true
}

// covers tells whether an OBJECT_RANGE is the one of an object.
func covers(ranges []byte, object uint64) bool {
	if ranges == nil {
		return false
	}
	h := Head(ranges)
	first, slots := h.u64(8), h.u64(16)
	return object >= first && object-first < slots
}

// fill makes the next record the current one.
func (r *Rest) fill() error {
	if len(r.out) > 0 {
		return nil
	}
	if len(r.queue) > 0 {
		r.out, r.queue = r.queue[0], r.queue[1:]
		stamp(&r.sum, r.out)
		return nil
	}
	if r.in.walk.Ended {
		return r.in.end()
	}
	payload, err := r.in.next()
	if err != nil {
		return err
	}
	r.out = r.in.stamped(&r.sum, payload)
	return nil
}

func (r *Rest) Read(p []byte) (int, error) {
	if r.err == nil {
		r.err = r.fill()
	}
	if r.err != nil {
		return 0, r.err
	}
	n := copy(p, r.out)
	r.out = r.out[n:]
	return n, nil
}

// Close closes what is read from. It may be called twice.
func (r *Rest) Close() error {
	if r.source == nil {
		return nil
	}
	err := r.source.Close()
	r.source = nil
	return err
}
