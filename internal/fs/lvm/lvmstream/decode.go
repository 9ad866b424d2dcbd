package lvmstream

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"hash/crc32"
	"io"
)

// Decoder reads a stream record by record. Each is checked before it is
// returned; that the stream is whole is known only when next returns io.EOF.
// Its states are: in records, until an end or an error, which stays.
type Decoder struct {
	r       io.Reader
	Head    Header
	sum     hash.Hash // of everything before the end record
	pos     int64     // of the volume, where the last record ended
	records int64
	bytes   int64  // of data
	Buf     []byte // of the present data record
	err     error  // how it ended
}

// NewDecoder reads the header. Buf belongs to the decoder; one that is too
// small for a record is left for another.
func NewDecoder(r io.Reader, buf []byte) (*Decoder, error) {
	d := &Decoder{r: r, sum: sha256.New(), Buf: buf}
	raw := make([]byte, HeaderSize)
	if err := d.fill(raw); err != nil {
		return nil, err
	}
	d.sum.Write(raw)
	var err error
	d.Head, err = decodeHeader(raw)
	return d, err
}

// fill reads all of b. A stream that ends meanwhile was cut off.
func (d *Decoder) fill(b []byte) error {
	_, err := io.ReadFull(d.r, b)
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("%w: it is cut off: %w", ErrInvalid, io.ErrUnexpectedEOF)
	}
	return err
}

// Next returns the next change, and its data until the next call. io.EOF says
// that the stream was whole and nothing followed.
func (d *Decoder) Next() (Record, []byte, error) {
	if d.err != nil {
		return Record{}, nil, d.err
	}
	r, data, err := d.step()
	d.err = err
	return r, data, err
}

func (d *Decoder) step() (Record, []byte, error) {
	var raw [RecordSize]byte
	if err := d.fill(raw[:]); err != nil {
		return Record{}, nil, err
	}
	r, err := DecodeRecord(raw[:])
	if err != nil {
		return r, nil, err
	}
	if r.Kind == recordEnd {
		return r, nil, d.end(r)
	}
	if d.pos, err = r.follow(d.Head, d.pos); err != nil {
		return r, nil, err
	}
	d.records++
	d.sum.Write(raw[:])
	if r.Kind == RecordDiscard {
		return r, nil, nil
	}
	if int64(cap(d.Buf)) < r.Length {
		d.Buf = make([]byte, r.Length) // follow has bounded it
	}
	data := d.Buf[:r.Length]
	if err := d.fill(data); err != nil {
		return r, nil, err
	}
	if crc32.ChecksumIEEE(data) != r.sum {
		return r, nil, fmt.Errorf("%w: the data at byte %d of the volume is damaged", ErrInvalid, r.Offset)
	}
	d.sum.Write(data)
	d.bytes += r.Length
	return r, data, nil
}

// end returns io.EOF if everything is in order.
func (d *Decoder) end(r Record) error {
	var digest [EndSize]byte
	if err := d.fill(digest[:]); err != nil {
		return err
	}
	switch {
	case r.Offset != d.records || r.Length != d.bytes:
		return fmt.Errorf("%w: it has %d records with %d bytes, and its end says %d and %d", ErrInvalid, d.records, d.bytes, r.Offset, r.Length)
	case crc32.ChecksumIEEE(digest[:]) != r.sum, !bytes.Equal(d.sum.Sum(nil), digest[:]):
		return fmt.Errorf("%w: its digest does not fit", ErrInvalid)
	}
	var more [1]byte
	switch n, err := io.ReadFull(d.r, more[:]); {
	case n > 0:
		return fmt.Errorf("%w: something follows its end", ErrInvalid)
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

// Check reads one whole stream and says what is in it. Anything else,
// such as a stream that is cut off or has one bit flipped, gives ErrInvalid; an
// error of the reader is returned as it is. It needs no LVM and about 1 MiB.
func Check(r io.Reader) (Info, error) {
	d, err := NewDecoder(r, nil)
	if err != nil {
		return Info{}, fmt.Errorf("check LVM stream: %w", err)
	}
	info := Info{GUID: d.Head.Snapshot.UUID, Base: d.Head.Base.UUID, Size: d.Head.Size}
	for {
		r, _, err := d.Next()
		if errors.Is(err, io.EOF) {
			info.Data, info.Records = d.bytes, d.records
			return info, nil
		}
		if err != nil {
			return Info{}, fmt.Errorf("check LVM stream: %w", err)
		}
		if r.Kind == RecordDiscard {
			info.Discards += r.Length
		}
	}
}
