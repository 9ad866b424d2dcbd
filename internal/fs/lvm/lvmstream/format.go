// Package lvmstream is the delta stream in which snapshots of logical volumes
// travel: its format, encoder, decoder and check. docs/FORMAT.md has its byte
// table. It needs no LVM, no device and no right, so that a stream can be
// checked where there is none.
package lvmstream

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"regexp"
)

// Format is the format's name in a manifest.
const Format = "lvm-1"

// Sizes in the stream, in bytes. All numbers are big endian.
const (
	streamMagic   = "snapdlvm"
	streamVersion = 1

	HeaderSize  = 256
	RecordSize  = 32
	EndSize     = 32      // SHA-256 after the end record
	DataMax     = 1 << 20 // bytes in one data record
	Sector      = 512     // everything is a multiple of it
	identityMax = 40      // of an LV's UUID, which has 38

	flagIncrement = 1
)

// ErrInvalid says that what was read is no whole, undamaged delta stream.
var ErrInvalid = errors.New("not a valid snapd LVM stream")

// UUIDForm is how LVM writes a UUID.
var UUIDForm = regexp.MustCompile(`^[0-9A-Za-z]{6}(-[0-9A-Za-z]{4}){5}-[0-9A-Za-z]{6}$`)

// Instant identifies one snapshot beyond doubt: a base is only the right one
// if all three are equal.
type Instant struct {
	UUID        string // of the snapshot's logical volume; "" for none
	ThinID      uint64 // 0 for a classic snapshot
	Transaction uint64 // of its pool when it was made; 0 for a classic one
}

func (i Instant) String() string {
	if i.ThinID == 0 {
		return i.UUID
	}
	return fmt.Sprintf("%s (thin device %d, transaction %d)", i.UUID, i.ThinID, i.Transaction)
}

// Header begins a stream.
type Header struct {
	Size     int64 // of the volume
	BaseSize int64 // of the base; 0 in a full stream
	Unit     uint32
	Snapshot Instant
	Base     Instant // zero in a full stream
}

// Increment tells whether the stream builds on a base.
func (h Header) Increment() bool { return h.Base.UUID != "" }

func (h Header) encode() []byte {
	b := make([]byte, 0, HeaderSize)
	b = append(b, streamMagic...)
	b = binary.BigEndian.AppendUint16(b, streamVersion)
	var flags uint16
	if h.Increment() {
		flags = flagIncrement
	}
	b = binary.BigEndian.AppendUint16(b, flags)
	b = binary.BigEndian.AppendUint32(b, HeaderSize)
	b = binary.BigEndian.AppendUint64(b, uint64(h.Size))
	b = binary.BigEndian.AppendUint64(b, uint64(h.BaseSize))
	b = binary.BigEndian.AppendUint32(b, h.Unit)
	b = append(b, 0, 0, 0, 0)
	b = h.Snapshot.encode(b)
	b = h.Base.encode(b)
	b = append(b, make([]byte, HeaderSize-4-len(b))...)
	return binary.BigEndian.AppendUint32(b, crc32.ChecksumIEEE(b))
}

func (i Instant) encode(b []byte) []byte {
	var name [identityMax]byte
	copy(name[:], i.UUID)
	b = append(b, name[:]...)
	b = binary.BigEndian.AppendUint64(b, i.ThinID)
	return binary.BigEndian.AppendUint64(b, i.Transaction)
}

func decodeHeader(b []byte) (Header, error) {
	switch {
	case string(b[:8]) != streamMagic:
		return Header{}, fmt.Errorf("%w: it does not begin with %q", ErrInvalid, streamMagic)
	case binary.BigEndian.Uint16(b[8:]) != streamVersion:
		return Header{}, fmt.Errorf("%w: version %d; this version of snapd reads version %d", ErrInvalid, binary.BigEndian.Uint16(b[8:]), streamVersion)
	case crc32.ChecksumIEEE(b[:HeaderSize-4]) != binary.BigEndian.Uint32(b[HeaderSize-4:]):
		return Header{}, fmt.Errorf("%w: its header is damaged", ErrInvalid)
	}
	h := Header{
		Size:     int64(binary.BigEndian.Uint64(b[16:])),
		BaseSize: int64(binary.BigEndian.Uint64(b[24:])),
		Unit:     binary.BigEndian.Uint32(b[32:]),
		Snapshot: decodeInstant(b[40:]),
		Base:     decodeInstant(b[96:]),
	}
	// Encoding again tells whether anything stands where nothing may.
	if !bytes.Equal(h.encode(), b) || !h.valid() {
		return Header{}, fmt.Errorf("%w: its header makes no sense", ErrInvalid)
	}
	return h, nil
}

func decodeInstant(b []byte) Instant {
	return Instant{
		UUID:        string(bytes.TrimRight(b[:identityMax], "\x00")),
		ThinID:      binary.BigEndian.Uint64(b[identityMax:]),
		Transaction: binary.BigEndian.Uint64(b[identityMax+8:]),
	}
}

func (h Header) valid() bool {
	whole := func(n int64) bool { return n >= 0 && n%Sector == 0 }
	if h.Size == 0 || !whole(h.Size) || !whole(h.BaseSize) || h.Unit == 0 || h.Unit%Sector != 0 || !UUIDForm.MatchString(h.Snapshot.UUID) {
		return false
	}
	if h.Increment() {
		return h.BaseSize > 0 && UUIDForm.MatchString(h.Base.UUID) && h.Base.UUID != h.Snapshot.UUID
	}
	return h.BaseSize == 0 && h.Base == Instant{}
}

// Kinds of records.
const (
	RecordData    byte = 1 // these bytes are as follows
	RecordDiscard byte = 2 // these bytes read as zeros
	recordEnd     byte = 3 // nothing follows but the digest of all before
)

// Record is one change. For an end, offset is the number of records before it
// and length the number of bytes that they carry as data.
type Record struct {
	Kind   byte
	Offset int64
	Length int64
	sum    uint32 // CRC-32 of what follows
}

func (r Record) encode(b []byte) []byte {
	at := len(b)
	b = append(b, r.Kind, 0, 0, 0, 0, 0, 0, 0)
	b = binary.BigEndian.AppendUint64(b, uint64(r.Offset))
	b = binary.BigEndian.AppendUint64(b, uint64(r.Length))
	b = binary.BigEndian.AppendUint32(b, r.sum)
	return binary.BigEndian.AppendUint32(b, crc32.ChecksumIEEE(b[at:]))
}

// DecodeRecord reads the head of a record.
func DecodeRecord(b []byte) (Record, error) {
	r := Record{
		Kind:   b[0],
		Offset: int64(binary.BigEndian.Uint64(b[8:])),
		Length: int64(binary.BigEndian.Uint64(b[16:])),
		sum:    binary.BigEndian.Uint32(b[24:]),
	}
	if !bytes.Equal(r.encode(nil), b) {
		return r, fmt.Errorf("%w: the head of a record is damaged", ErrInvalid)
	}
	return r, nil
}

// follow checks that the record may stand after one that ended at byte pos of
// the volume, and returns where it ends itself.
func (r Record) follow(h Header, pos int64) (int64, error) {
	bad := func(why string) (int64, error) {
		return 0, fmt.Errorf("%w: a record of bytes %d+%d %s", ErrInvalid, r.Offset, r.Length, why)
	}
	switch {
	case r.Kind != RecordData && r.Kind != RecordDiscard:
		return 0, fmt.Errorf("%w: a record of the unknown kind %d", ErrInvalid, r.Kind)
	case r.Kind == RecordData && r.Length > DataMax:
		return bad(fmt.Sprintf("is longer than %d", DataMax))
	case r.Kind == RecordDiscard && !h.Increment():
		return bad("is a discard, in a full stream")
	case r.Kind == RecordDiscard && r.sum != 0:
		return bad("is a discard with a checksum")
	case r.Length <= 0 || r.Length%Sector != 0 || r.Offset < 0 || r.Offset%Sector != 0:
		return bad("is not of whole sectors")
	case r.Offset < pos:
		return bad(fmt.Sprintf("stands after one that ended at %d: they are out of order", pos))
	case r.Offset > h.Size-r.Length:
		return bad(fmt.Sprintf("goes beyond the volume's %d", h.Size))
	}
	return r.Offset + r.Length, nil
}
