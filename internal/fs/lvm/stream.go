package lvm

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"regexp"
)

// The delta stream: docs/FORMAT.md has its byte table. All numbers are big
// endian, all sizes and offsets bytes.
const (
	streamMagic   = "snapdlvm"
	streamVersion = 1

	headerSize  = 256
	recordSize  = 32
	endSize     = 32      // SHA-256 after the end record
	dataMax     = 1 << 20 // bytes in one data record
	sector      = 512     // everything is a multiple of it
	identityMax = 40      // of an LV's UUID, which has 38

	flagIncrement = 1
)

// ErrStream says that what was read is no whole, undamaged delta stream.
var ErrStream = errors.New("not a valid snapd LVM stream")

// lvUUID is how LVM writes a UUID.
var lvUUID = regexp.MustCompile(`^[0-9A-Za-z]{6}(-[0-9A-Za-z]{4}){5}-[0-9A-Za-z]{6}$`)

// instant identifies one snapshot beyond doubt: a base is only the right one
// if all three are equal.
type instant struct {
	uuid        string // of the snapshot's logical volume; "" for none
	thinID      uint64 // 0 for a classic snapshot
	transaction uint64 // of its pool when it was made; 0 for a classic one
}

func (i instant) String() string {
	if i.thinID == 0 {
		return i.uuid
	}
	return fmt.Sprintf("%s (thin device %d, transaction %d)", i.uuid, i.thinID, i.transaction)
}

// header begins a stream.
type header struct {
	size     int64 // of the volume
	baseSize int64 // of the base; 0 in a full stream
	unit     uint32
	snapshot instant
	base     instant // zero in a full stream
}

func (h header) increment() bool { return h.base.uuid != "" }

func (h header) encode() []byte {
	b := make([]byte, 0, headerSize)
	b = append(b, streamMagic...)
	b = binary.BigEndian.AppendUint16(b, streamVersion)
	var flags uint16
	if h.increment() {
		flags = flagIncrement
	}
	b = binary.BigEndian.AppendUint16(b, flags)
	b = binary.BigEndian.AppendUint32(b, headerSize)
	b = binary.BigEndian.AppendUint64(b, uint64(h.size))
	b = binary.BigEndian.AppendUint64(b, uint64(h.baseSize))
	b = binary.BigEndian.AppendUint32(b, h.unit)
	b = append(b, 0, 0, 0, 0)
	b = h.snapshot.encode(b)
	b = h.base.encode(b)
	b = append(b, make([]byte, headerSize-4-len(b))...)
	return binary.BigEndian.AppendUint32(b, crc32.ChecksumIEEE(b))
}

func (i instant) encode(b []byte) []byte {
	var name [identityMax]byte
	copy(name[:], i.uuid)
	b = append(b, name[:]...)
	b = binary.BigEndian.AppendUint64(b, i.thinID)
	return binary.BigEndian.AppendUint64(b, i.transaction)
}

func decodeHeader(b []byte) (header, error) {
	switch {
	case string(b[:8]) != streamMagic:
		return header{}, fmt.Errorf("%w: it does not begin with %q", ErrStream, streamMagic)
	case binary.BigEndian.Uint16(b[8:]) != streamVersion:
		return header{}, fmt.Errorf("%w: version %d; this version of snapd reads version %d", ErrStream, binary.BigEndian.Uint16(b[8:]), streamVersion)
	case crc32.ChecksumIEEE(b[:headerSize-4]) != binary.BigEndian.Uint32(b[headerSize-4:]):
		return header{}, fmt.Errorf("%w: its header is damaged", ErrStream)
	}
	h := header{
		size:     int64(binary.BigEndian.Uint64(b[16:])),
		baseSize: int64(binary.BigEndian.Uint64(b[24:])),
		unit:     binary.BigEndian.Uint32(b[32:]),
		snapshot: decodeInstant(b[40:]),
		base:     decodeInstant(b[96:]),
	}
	// Encoding again tells whether anything stands where nothing may.
	if !bytes.Equal(h.encode(), b) || !h.valid() {
		return header{}, fmt.Errorf("%w: its header makes no sense", ErrStream)
	}
	return h, nil
}

func decodeInstant(b []byte) instant {
	return instant{
		uuid:        string(bytes.TrimRight(b[:identityMax], "\x00")),
		thinID:      binary.BigEndian.Uint64(b[identityMax:]),
		transaction: binary.BigEndian.Uint64(b[identityMax+8:]),
	}
}

func (h header) valid() bool {
	whole := func(n int64) bool { return n >= 0 && n%sector == 0 }
	if h.size == 0 || !whole(h.size) || !whole(h.baseSize) || h.unit == 0 || h.unit%sector != 0 || !lvUUID.MatchString(h.snapshot.uuid) {
		return false
	}
	if h.increment() {
		return h.baseSize > 0 && lvUUID.MatchString(h.base.uuid) && h.base.uuid != h.snapshot.uuid
	}
	return h.baseSize == 0 && h.base == instant{}
}

// Kinds of records.
const (
	recordData    byte = 1 // these bytes are as follows
	recordDiscard byte = 2 // these bytes read as zeros
	recordEnd     byte = 3 // nothing follows but the digest of all before
)

// record is one change. For an end, offset is the number of records before it
// and length the number of bytes that they carry as data.
type record struct {
	kind   byte
	offset int64
	length int64
	sum    uint32 // CRC-32 of what follows
}

func (r record) encode(b []byte) []byte {
	at := len(b)
	b = append(b, r.kind, 0, 0, 0, 0, 0, 0, 0)
	b = binary.BigEndian.AppendUint64(b, uint64(r.offset))
	b = binary.BigEndian.AppendUint64(b, uint64(r.length))
	b = binary.BigEndian.AppendUint32(b, r.sum)
	return binary.BigEndian.AppendUint32(b, crc32.ChecksumIEEE(b[at:]))
}

func decodeRecord(b []byte) (record, error) {
	r := record{
		kind:   b[0],
		offset: int64(binary.BigEndian.Uint64(b[8:])),
		length: int64(binary.BigEndian.Uint64(b[16:])),
		sum:    binary.BigEndian.Uint32(b[24:]),
	}
	if !bytes.Equal(r.encode(nil), b) {
		return r, fmt.Errorf("%w: the head of a record is damaged", ErrStream)
	}
	return r, nil
}

// follow checks that the record may stand after one that ended at byte pos of
// the volume, and returns where it ends itself.
func (r record) follow(h header, pos int64) (int64, error) {
	bad := func(why string) (int64, error) {
		return 0, fmt.Errorf("%w: a record of bytes %d+%d %s", ErrStream, r.offset, r.length, why)
	}
	switch {
	case r.kind != recordData && r.kind != recordDiscard:
		return 0, fmt.Errorf("%w: a record of the unknown kind %d", ErrStream, r.kind)
	case r.kind == recordData && r.length > dataMax:
		return bad(fmt.Sprintf("is longer than %d", dataMax))
	case r.kind == recordDiscard && !h.increment():
		return bad("is a discard, in a full stream")
	case r.kind == recordDiscard && r.sum != 0:
		return bad("is a discard with a checksum")
	case r.length <= 0 || r.length%sector != 0 || r.offset < 0 || r.offset%sector != 0:
		return bad("is not of whole sectors")
	case r.offset < pos:
		return bad(fmt.Sprintf("stands after one that ended at %d: they are out of order", pos))
	case r.offset > h.size-r.length:
		return bad(fmt.Sprintf("goes beyond the volume's %d", h.size))
	}
	return r.offset + r.length, nil
}
