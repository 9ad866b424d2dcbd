package zfsstream

import (
	"errors"
	"fmt"
)

// ErrInvalid says that bytes are not one whole ZFS send stream.
var ErrInvalid = errors.New("not a whole ZFS stream")

// Walker follows a stream as it is given to it, in pieces of any size, and
// checks all that can be checked without a pool. Memory: one header.
type Walker struct {
	Offset int64 // of the next byte in the stream
	sum    fletcher
	Begin  Head // of the stream, once it is whole
	Began  bool
	Ended  bool
	failed error
	// believe takes the checksum in the next record for right: reading begins
	// in the middle of a stream.
	believe bool

	head    Head
	have    int // bytes of head that are there
	Left    int // bytes of the payload that are still to come
	carry   [4]byte
	carried int
	atHead  fletcher // sum when the header ended
	size    int      // of the payload

	records int64
	dense   int64 // bytes of payloads that are compressed or encrypted
	anchor  anchor
}

// anchor is the last position from which the sender can go on.
type anchor struct {
	End    int64    // offset of the first byte after its record; 0: there is none
	sum    fletcher // at that position
	Object uint64
	Offset uint64
	record fletcher // of the record itself, without its own checksum
}

// Damaged is ErrInvalid at the byte that the walker took last, with why.
func (w *Walker) Damaged(format string, args ...any) error {
	return fmt.Errorf("%w: before byte %d: %s", ErrInvalid, w.Offset, fmt.Sprintf(format, args...))
}

// Write takes the next piece of the stream. Once it fails it fails for ever.
func (w *Walker) Write(p []byte) (int, error) {
	n := len(p)
	for len(p) > 0 && w.failed == nil {
		taken := 0
		taken, w.failed = w.step(p)
		p = p[taken:]
	}
	return n - len(p), w.failed
}

// step takes what it can use at once.
func (w *Walker) step(p []byte) (int, error) {
	if w.Ended {
		return 0, w.Damaged("something follows its end")
	}
	if w.Left > 0 {
		n := min(w.Left, len(p))
		w.hash(p[:n])
		w.Offset += int64(n)
		w.Left -= n
		if w.Left == 0 {
			return n, w.finishRecord()
		}
		return n, nil
	}
	n := copy(w.head[w.have:], p)
	w.Offset += int64(n)
	if w.have += n; w.have < HeadSize {
		return n, nil
	}
	w.have = 0
	return n, w.startRecord()
}

// hash goes over a piece of a payload. Pieces end anywhere, words do not.
func (w *Walker) hash(p []byte) {
	if w.carried > 0 {
		n := copy(w.carry[w.carried:], p)
		p = p[n:]
		if w.carried += n; w.carried < len(w.carry) {
			return
		}
		w.sum.add(w.carry[:])
		w.carried = 0
	}
	whole := len(p) &^ 3
	w.sum.add(p[:whole])
	w.carried = copy(w.carry[:], p[whole:])
}

// startRecord checks a header that is whole.
func (w *Walker) startRecord() (err error) {
	if !w.Began {
		if err := w.head.CheckBegin(); err != nil {
			return w.Damaged("%v", err)
		}
		w.Began, w.Begin = true, w.head
		w.sum.add(w.head[:])
	} else if err := w.continues(); err != nil {
		return err
	}
	if w.size, err = w.head.Payload(); err != nil {
		return w.Damaged("%v", err)
	}
	w.atHead, w.Left = w.sum, w.size
	if w.Left == 0 {
		return w.finishRecord()
	}
	return nil
}

// continues checks the header of a record that is not the first.
func (w *Walker) continues() error {
	h := &w.head
	if h.Kind() == kindBegin {
		return w.Damaged("a second stream begins")
	}
	before := w.sum
	w.sum.add(h[:StoredSum])
	stored := getFletcher(h[StoredSum:])
	if w.believe {
		w.sum, w.believe = stored, false
	}
	if stored != w.sum {
		return w.Damaged("the checksum of a record %s does not match", h.Kind())
	}
	if h.Kind() == KindEnd && getFletcher(h[8:]) != before {
		return w.Damaged("the checksum at its end does not match")
	}
	w.sum.add(h[StoredSum:])
	if guid, there := h.guid(); there && guid != w.Begin.ToGUID() {
		return w.Damaged("a record %s of another snapshot (%d, not %d)", h.Kind(), guid, w.Begin.ToGUID())
	}
	return nil
}

func (w *Walker) finishRecord() error {
	w.records++
	if w.head.dense(w.Begin.Features()) {
		w.dense += int64(w.size)
	}
	if w.head.Kind() == KindEnd {
		w.Ended = true
	}
	if w.head.canAnchor() {
		w.anchor = anchor{
			End: w.Offset, sum: w.sum, Object: w.head.Object(), Offset: w.head.offset(),
			record: recordSum(&w.head, w.atHead, w.sum, w.size),
		}
	}
	return nil
}

// canAnchor tells whether the sender can go on after this record. Object 0
// makes it abort, and so does an offset beyond what is signed.
func (h *Head) canAnchor() bool {
	k := h.Kind()
	return (k == kindObject || k == kindWrite) && h.Object() != 0 && h.Object() < 1<<63 && h.offset() < 1<<63
}

// recordSum is the checksum of one record alone, without the bytes that have
// the running checksum: the same for the same record anywhere. It is worked
// out from the running checksums before and after the payload.
func recordSum(h *Head, before, after fletcher, payload int) fletcher {
	words := uint64(payload / 4)
	return fletcherOf(h[:StoredSum]).after(words).plus(after.less(before.after(words)))
}

// here is the running checksum at the very byte that was taken last, also in
// the middle of a record. Only at multiples of 4 it means anything.
func (w *Walker) here() fletcher {
	sum := w.sum
	sum.add(w.head[:w.have&^3])
	return sum
}

// DenseSoFar counts also what has passed of the current payload.
func (w *Walker) DenseSoFar() int64 {
	if w.Left > 0 && w.head.dense(w.Begin.Features()) {
		return w.dense + int64(w.size-w.Left)
	}
	return w.dense
}
