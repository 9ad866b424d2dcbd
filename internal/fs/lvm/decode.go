package lvm

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"hash/crc32"
	"io"
)

// decoder reads a stream record by record. Each is checked before it is
// returned; that the stream is whole is known only when next returns io.EOF.
// Its states are: in records, until an end or an error, which stays.
type decoder struct {
	r       io.Reader
	head    header
	sum     hash.Hash // of everything before the end record
	pos     int64     // of the volume, where the last record ended
	records int64
	bytes   int64  // of data
	buf     []byte // of the present data record
	err     error  // how it ended
}

// newDecoder reads the header. Buf belongs to the decoder; one that is too
// small for a record is left for another.
func newDecoder(r io.Reader, buf []byte) (*decoder, error) {
	d := &decoder{r: r, sum: sha256.New(), buf: buf}
	raw := make([]byte, headerSize)
	if err := d.fill(raw); err != nil {
		return nil, err
	}
	d.sum.Write(raw)
	var err error
	d.head, err = decodeHeader(raw)
	return d, err
}

// fill reads all of b. A stream that ends meanwhile was cut off.
func (d *decoder) fill(b []byte) error {
	_, err := io.ReadFull(d.r, b)
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("%w: it is cut off: %w", ErrStream, io.ErrUnexpectedEOF)
	}
	return err
}

// next returns the next change, and its data until the next call. io.EOF says
// that the stream was whole and nothing followed.
func (d *decoder) next() (record, []byte, error) {
	if d.err != nil {
		return record{}, nil, d.err
	}
	r, data, err := d.step()
	d.err = err
	return r, data, err
}

func (d *decoder) step() (record, []byte, error) {
	var raw [recordSize]byte
	if err := d.fill(raw[:]); err != nil {
		return record{}, nil, err
	}
	r, err := decodeRecord(raw[:])
	if err != nil {
		return r, nil, err
	}
	if r.kind == recordEnd {
		return r, nil, d.end(r)
	}
	if d.pos, err = r.follow(d.head, d.pos); err != nil {
		return r, nil, err
	}
	d.records++
	d.sum.Write(raw[:])
	if r.kind == recordDiscard {
		return r, nil, nil
	}
	if int64(cap(d.buf)) < r.length {
		d.buf = make([]byte, r.length) // follow has bounded it
	}
	data := d.buf[:r.length]
	if err := d.fill(data); err != nil {
		return r, nil, err
	}
	if crc32.ChecksumIEEE(data) != r.sum {
		return r, nil, fmt.Errorf("%w: the data at byte %d of the volume is damaged", ErrStream, r.offset)
	}
	d.sum.Write(data)
	d.bytes += r.length
	return r, data, nil
}

// end returns io.EOF if everything is in order.
func (d *decoder) end(r record) error {
	var digest [endSize]byte
	if err := d.fill(digest[:]); err != nil {
		return err
	}
	switch {
	case r.offset != d.records || r.length != d.bytes:
		return fmt.Errorf("%w: it has %d records with %d bytes, and its end says %d and %d", ErrStream, d.records, d.bytes, r.offset, r.length)
	case crc32.ChecksumIEEE(digest[:]) != r.sum, !bytes.Equal(d.sum.Sum(nil), digest[:]):
		return fmt.Errorf("%w: its digest does not fit", ErrStream)
	}
	var more [1]byte
	switch n, err := io.ReadFull(d.r, more[:]); {
	case n > 0:
		return fmt.Errorf("%w: something follows its end", ErrStream)
	default:
		return err // io.EOF, or what the reader has
	}
}

// Info is what a stream says about itself.
type Info struct {
	GUID     string // of the snapshot that it makes
	Base     string // GUID of the snapshot that it builds on, "" for a full stream
	Size     int64  // of the volume, bytes
	Data     int64  // bytes that it carries
	Discards int64  // bytes that it says are zeros
	Records  int64
}

// CheckStream reads one whole stream and says what is in it. Anything else,
// such as a stream that is cut off or has one bit flipped, gives ErrStream; an
// error of the reader is returned as it is. It needs no LVM and about 1 MiB.
func CheckStream(r io.Reader) (Info, error) {
	d, err := newDecoder(r, nil)
	if err != nil {
		return Info{}, fmt.Errorf("check LVM stream: %w", err)
	}
	info := Info{GUID: d.head.snapshot.uuid, Base: d.head.base.uuid, Size: d.head.size}
	for {
		r, _, err := d.next()
		if errors.Is(err, io.EOF) {
			info.Data, info.Records = d.bytes, d.records
			return info, nil
		}
		if err != nil {
			return Info{}, fmt.Errorf("check LVM stream: %w", err)
		}
		if r.kind == recordDiscard {
			info.Discards += r.length
		}
	}
}
