package lvmstream

import (
	"crypto/sha256"
	"fmt"
	"hash"
	"hash/crc32"
)

// Encoder turns a header and changes into the bytes of a stream. Its states
// are: begun (header written), writing, ended; each method appends to out and
// returns it.
type Encoder struct {
	head    Header
	sum     hash.Hash // of all that was appended
	pos     int64     // of the volume, where the last record ended
	records int64
	bytes   int64 // of data
	ended   bool
}

// Begin starts a stream.
func Begin(h Header, out []byte) (*Encoder, []byte, error) {
	if !h.valid() {
		return nil, nil, fmt.Errorf("%w: header %+v", ErrInvalid, h)
	}
	e := &Encoder{head: h, sum: sha256.New()}
	return e, e.add(out, h.encode()), nil
}

func (e *Encoder) add(out, b []byte) []byte {
	e.sum.Write(b)
	return append(out, b...)
}

// Data says that the volume has p at offset.
func (e *Encoder) Data(out []byte, offset int64, p []byte) ([]byte, error) {
	r := Record{Kind: RecordData, Offset: offset, Length: int64(len(p)), sum: crc32.ChecksumIEEE(p)}
	if err := e.advance(r); err != nil {
		return nil, err
	}
	e.bytes += r.Length
	return e.add(e.add(out, r.encode(nil)), p), nil
}

// Discard says that length bytes of the volume, from offset, read as zeros.
func (e *Encoder) Discard(out []byte, offset, length int64) ([]byte, error) {
	r := Record{Kind: RecordDiscard, Offset: offset, Length: length}
	if err := e.advance(r); err != nil {
		return nil, err
	}
	return e.add(out, r.encode(nil)), nil
}

func (e *Encoder) advance(r Record) error {
	if e.ended {
		return fmt.Errorf("%w: a record after its end", ErrInvalid)
	}
	pos, err := r.follow(e.head, e.pos)
	if err != nil {
		return err
	}
	e.pos = pos
	e.records++
	return nil
}

// End completes the stream.
func (e *Encoder) End(out []byte) ([]byte, error) {
	if e.ended {
		return nil, fmt.Errorf("%w: ended twice", ErrInvalid)
	}
	e.ended = true
	digest := e.sum.Sum(nil)
	r := Record{Kind: recordEnd, Offset: e.records, Length: e.bytes, sum: crc32.ChecksumIEEE(digest)}
	return append(r.encode(out), digest...), nil
}
