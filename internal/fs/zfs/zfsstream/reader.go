package zfsstream

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"io"
)

// recordReader reads a stream record by record, and checks it on the way.
type recordReader struct {
	from *bufio.Reader
	walk Walker
	head Head
	buf  []byte // head and payload, as they were read
}

// next reads one record. The payload is valid until the next one is read.
func (r *recordReader) next() (payload []byte, err error) {
	if err := r.read(r.head[:]); err != nil {
		return nil, err
	}
	n, err := r.head.Payload()
	if err != nil {
		return nil, r.walk.Damaged("%v", err)
	}
	if cap(r.buf) < HeadSize+n {
		r.buf = make([]byte, HeadSize+n)
	}
	payload = r.buf[HeadSize : HeadSize+n]
	return payload, r.read(payload)
}

// read fills p with the stream's next bytes.
func (r *recordReader) read(p []byte) error {
	_, err := io.ReadFull(r.from, p)
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return r.walk.Damaged("it is cut off")
	}
	if err == nil {
		_, err = r.walk.Write(p)
	}
	return err
}

// record is a copy of the record that was read last.
func (r *recordReader) record(payload []byte) []byte {
	return append(bytes.Clone(r.head[:]), payload...)
}

// stamped is the record that was read last with the checksums that it has in
// another stream, whose running checksum is sum.
func (r *recordReader) stamped(sum *fletcher, payload []byte) []byte {
	raw := append(r.buf[:0], r.head[:]...)[:HeadSize+len(payload)]
	stamp(sum, raw)
	return raw
}

// stamp puts the running checksum of a stream into a record, and goes on.
func stamp(sum *fletcher, raw []byte) {
	if Kind(binary.LittleEndian.Uint32(raw)) == KindEnd {
		sum.put(raw[8:])
	}
	sum.add(raw[:StoredSum])
	sum.put(raw[StoredSum:])
	sum.add(raw[StoredSum:])
}

// end makes sure that the stream has nothing more to say, and ended well: only
// then it is io.EOF.
func (r *recordReader) end() error {
	_, err := r.from.ReadByte()
	if err == nil {
		err = r.walk.Damaged("something follows its end")
	}
	return err
}
