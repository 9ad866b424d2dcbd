package lvm

import (
	"crypto/sha256"
	"fmt"
	"hash"
	"hash/crc32"
)

// encoder turns a header and changes into the bytes of a stream. Its states
// are: begun (header written), writing, ended; each method appends to out and
// returns it.
type encoder struct {
	head    header
	sum     hash.Hash // of all that was appended
	pos     int64     // of the volume, where the last record ended
	records int64
	bytes   int64 // of data
	ended   bool
}

// begin starts a stream.
func begin(h header, out []byte) (*encoder, []byte, error) {
	if !h.valid() {
		return nil, nil, fmt.Errorf("%w: header %+v", ErrStream, h)
	}
	e := &encoder{head: h, sum: sha256.New()}
	return e, e.add(out, h.encode()), nil
}

func (e *encoder) add(out, b []byte) []byte {
	e.sum.Write(b)
	return append(out, b...)
}

// data says that the volume has p at offset.
func (e *encoder) data(out []byte, offset int64, p []byte) ([]byte, error) {
	r := record{kind: recordData, offset: offset, length: int64(len(p)), sum: crc32.ChecksumIEEE(p)}
	if err := e.advance(r); err != nil {
		return nil, err
	}
	e.bytes += r.length
	return e.add(e.add(out, r.encode(nil)), p), nil
}

// discard says that length bytes of the volume, from offset, read as zeros.
func (e *encoder) discard(out []byte, offset, length int64) ([]byte, error) {
	r := record{kind: recordDiscard, offset: offset, length: length}
	if err := e.advance(r); err != nil {
		return nil, err
	}
	return e.add(out, r.encode(nil)), nil
}

func (e *encoder) advance(r record) error {
	if e.ended {
		return fmt.Errorf("%w: a record after its end", ErrStream)
	}
	pos, err := r.follow(e.head, e.pos)
	if err != nil {
		return err
	}
	e.pos = pos
	e.records++
	return nil
}

// end completes the stream.
func (e *encoder) end(out []byte) ([]byte, error) {
	if e.ended {
		return nil, fmt.Errorf("%w: ended twice", ErrStream)
	}
	e.ended = true
	digest := e.sum.Sum(nil)
	r := record{kind: recordEnd, offset: e.records, length: e.bytes, sum: crc32.ChecksumIEEE(digest)}
	return append(r.encode(out), digest...), nil
}
