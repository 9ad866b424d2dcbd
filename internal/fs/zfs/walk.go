package zfs

import (
	"errors"
	"fmt"
)

// ErrStream says that bytes are not one whole ZFS send stream.
var ErrStream = errors.New("not a whole ZFS stream")

// walker follows a stream as it is given to it, in pieces of any size, and
// checks all that can be checked without a pool. Memory: one header.
type walker struct {
	offset int64 // of the next byte in the stream
	sum    fletcher
	begin  head // of the stream, once it is whole
	began  bool
	ended  bool
	failed error
	// believe takes the checksum in the next record for right: reading begins
	// in the middle of a stream.
	believe bool

	head    head
	have    int // bytes of head that are there
	left    int // bytes of the payload that are still to come
	carry   [4]byte
	carried int
	atHead  fletcher // sum when the header ended
	size    int      // of the payload

	records int64
	dense   int64 // bytes of payloads that are compressed or encrypted
	anchor  anchor
}

// anchor is the last place from which the sender can go on.
type anchor struct {
	end    int64    // offset of the first byte after its record; 0: there is none
	sum    fletcher // at that place
	object uint64
	offset uint64
	record fletcher // of the record itself, without its own checksum
}

func (w *walker) damaged(format string, args ...any) error {
	return fmt.Errorf("%w: before byte %d: %s", ErrStream, w.offset, fmt.Sprintf(format, args...))
}

// Write takes the next piece of the stream. Once it fails it fails for ever.
func (w *walker) Write(p []byte) (int, error) {
	n := len(p)
	for len(p) > 0 && w.failed == nil {
		taken := 0
		taken, w.failed = w.step(p)
		p = p[taken:]
	}
	return n - len(p), w.failed
}

// step takes what it can use at once.
func (w *walker) step(p []byte) (int, error) {
	if w.ended {
		return 0, w.damaged("something follows its end")
	}
	if w.left > 0 {
		n := min(w.left, len(p))
		w.hash(p[:n])
		w.offset += int64(n)
		w.left -= n
		if w.left == 0 {
			return n, w.finishRecord()
		}
		return n, nil
	}
	n := copy(w.head[w.have:], p)
	w.offset += int64(n)
	if w.have += n; w.have < headSize {
		return n, nil
	}
	w.have = 0
	return n, w.startRecord()
}

// hash goes over a piece of a payload. Pieces end anywhere, words do not.
func (w *walker) hash(p []byte) {
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
func (w *walker) startRecord() (err error) {
	if !w.began {
		if err := w.head.checkBegin(); err != nil {
			return w.damaged("%v", err)
		}
		w.began, w.begin = true, w.head
		w.sum.add(w.head[:])
	} else if err := w.continues(); err != nil {
		return err
	}
	if w.size, err = w.head.payload(); err != nil {
		return w.damaged("%v", err)
	}
	w.atHead, w.left = w.sum, w.size
	if w.left == 0 {
		return w.finishRecord()
	}
	return nil
}

// continues checks the header of a record that is not the first.
func (w *walker) continues() error {
	h := &w.head
	if h.kind() == kindBegin {
		return w.damaged("a second stream begins")
	}
	before := w.sum
	w.sum.add(h[:storedSum])
	stored := getFletcher(h[storedSum:])
	if w.believe {
		w.sum, w.believe = stored, false
	}
	if stored != w.sum {
		return w.damaged("the checksum of a record %s does not match", h.kind())
	}
	if h.kind() == kindEnd && getFletcher(h[8:]) != before {
		return w.damaged("the checksum at its end does not match")
	}
	w.sum.add(h[storedSum:])
	if guid, there := h.guid(); there && guid != w.begin.toGUID() {
		return w.damaged("a record %s of another snapshot (%d, not %d)", h.kind(), guid, w.begin.toGUID())
	}
	return nil
}

func (w *walker) finishRecord() error {
	w.records++
	if w.head.dense(w.begin.features()) {
		w.dense += int64(w.size)
	}
	if w.head.kind() == kindEnd {
		w.ended = true
	}
	if w.head.canAnchor() {
		w.anchor = anchor{
			end: w.offset, sum: w.sum, object: w.head.object(), offset: w.head.offset(),
			record: recordSum(&w.head, w.atHead, w.sum, w.size),
		}
	}
	return nil
}

// canAnchor tells whether the sender can go on after this record. Object 0
// makes it abort, and so does an offset beyond what is signed.
func (h *head) canAnchor() bool {
	k := h.kind()
	return (k == kindObject || k == kindWrite) && h.object() != 0 && h.object() < 1<<63 && h.offset() < 1<<63
}

// recordSum is the checksum of one record alone, without the place that holds
// the running checksum: the same for the same record anywhere. It is worked
// out from the running checksums before and after the payload.
func recordSum(h *head, before, after fletcher, payload int) fletcher {
	words := uint64(payload / 4)
	return fletcherOf(h[:storedSum]).after(words).plus(after.less(before.after(words)))
}

// here is the running checksum at the very byte that was taken last, also in
// the middle of a record. Only at multiples of 4 it means anything.
func (w *walker) here() fletcher {
	sum := w.sum
	sum.add(w.head[:w.have&^3])
	return sum
}
