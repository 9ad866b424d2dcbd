package zfsstream

import (
	"bytes"
	"encoding/binary"
	"fmt"
)

// A send stream is records of a header of 312 bytes and a payload. All numbers
// are little-endian; streams of big-endian hosts are refused. The source is
// zfs_ioctl.h of OpenZFS (dmu_replay_record_t).
const (
	HeadSize  = 312
	StoredSum = HeadSize - fletcherSize // where a header holds the checksum of all before it

	streamMagic = 0x2F5bacbac
)

// Kind is the type of a record.
type Kind uint32

// The kinds of records.
const (
	kindBegin Kind = iota
	kindObject
	kindFreeObjects
	kindWrite
	kindFree
	KindEnd
	kindWriteByRef
	kindSpill
	kindWriteEmbedded
	kindObjectRange
	kindRedact
	KindCount
)

func (k Kind) String() string {
	names := [...]string{"BEGIN", "OBJECT", "FREEOBJECTS", "WRITE", "FREE", "END", "WRITE_BYREF", "SPILL", "WRITE_EMBEDDED", "OBJECT_RANGE", "REDACT"}
	if int(k) < len(names) {
		return names[k]
	}
	return fmt.Sprintf("record of type %d", uint32(k))
}

// Feature flags of a stream, in BEGIN.
const (
	featureDedup         = 1 << 0
	featureDedupProps    = 1 << 1
	featureSpill         = 1 << 2
	FeatureEmbedded      = 1 << 16
	FeatureLZ4           = 1 << 17
	FeatureLargeBlocks   = 1 << 19
	featureResuming      = 1 << 20
	featureRedacted      = 1 << 21
	featureCompressed    = 1 << 22
	FeatureLargeDnode    = 1 << 23
	FeatureRaw           = 1 << 24
	FeatureZstd          = 1 << 25
	featureHolds         = 1 << 26
	featureSwitchToLarge = 1 << 27
	FeatureLongName      = 1 << 28
	FeatureLargeMicrozap = 1 << 29

	featuresKnown = featureDedup | featureDedupProps | featureSpill | FeatureEmbedded | FeatureLZ4 | FeatureLargeBlocks |
		featureResuming | featureRedacted | featureCompressed | FeatureLargeDnode | FeatureRaw | FeatureZstd |
		featureHolds | featureSwitchToLarge | FeatureLongName | FeatureLargeMicrozap
)

// What a stream is of, and that it is of one snapshot.
const (
	typeFilesystem = 2 // DMU_OST_ZFS
	TypeVolume     = 3 // DMU_OST_ZVOL

	substream = 1 // header type of a stream of one snapshot
)

// Bounds of payloads, in bytes. A block has at most 16 MiB; what cannot be
// compressed is stored as it is.
const (
	maxBlock = 16 << 20
	maxBonus = 64 << 10
	maxBegin = 1 << 20 // our streams have the position where they were resumed there, or keys that are wrapped
)

// Head is the header of a record.
type Head [HeadSize]byte

func (h *Head) u32(at int) uint32 { return binary.LittleEndian.Uint32(h[at:]) }
func (h *Head) u64(at int) uint64 { return binary.LittleEndian.Uint64(h[at:]) }

// Kind is the type of the record.
func (h *Head) Kind() Kind { return Kind(h.u32(0)) }

// Object and offset are the position of a record: of OBJECT, WRITE, FREE, SPILL,
// WRITE_EMBEDDED.
func (h *Head) Object() uint64 { return h.u64(8) }

func (h *Head) offset() uint64 {
	if h.Kind() == kindWrite {
		return h.u64(24)
	}
	return 0
}

// Start is where WRITE, WRITE_EMBEDDED and FREE begin in their object.
func (h *Head) Start() uint64 {
	if h.Kind() == kindWrite {
		return h.u64(24)
	}
	return h.u64(16)
}

// Features are the flags of a stream, in its BEGIN.
func (h *Head) Features() uint64   { return h.u64(16) >> 2 & (1<<30 - 1) }
func (h *Head) streamType() uint64 { return h.u64(16) & 3 }

// DatasetType is TypeVolume or a filesystem's, in BEGIN.
func (h *Head) DatasetType() uint32 { return h.u32(32) }

// ToGUID is the guid of the snapshot that the stream makes, in BEGIN.
func (h *Head) ToGUID() uint64 { return h.u64(40) }

// FromGUID is that of its base, 0 for a full stream, in BEGIN.
func (h *Head) FromGUID() uint64 { return h.u64(48) }

func (h *Head) toName() string {
	name, _, _ := bytes.Cut(h[56:], []byte{0})
	return string(name)
}

// guid is the guid of the snapshot that each record but BEGIN repeats.
func (h *Head) guid() (guid uint64, there bool) {
	at := map[Kind]int{
		kindObject: 40, kindFreeObjects: 24, kindWrite: 40, kindFree: 32, KindEnd: 40,
		kindSpill: 24, kindWriteEmbedded: 32, kindObjectRange: 24,
	}[h.Kind()]
	if at == 0 {
		return 0, false
	}
	return h.u64(at), true
}

// Payload is how many bytes follow the header, or why this cannot be a record.
func (h *Head) Payload() (int, error) {
	n, most := uint64(0), uint64(maxBlock)
	switch h.Kind() {
	case kindBegin:
		n, most = uint64(h.u32(4)), maxBegin
	case kindObject:
		n, most = uint64(h.u32(36)), maxBonus
		if n == 0 {
			n = (uint64(h.u32(28)) + 7) &^ 7
		}
	case kindWrite:
		n = h.u64(32)
		if h[50] != 0 {
			n = h.u64(96)
		}
	case kindSpill:
		n = h.u64(16)
		if compressed := h.u64(40); compressed != 0 {
			n = compressed
		}
	case kindWriteEmbedded:
		n, most = (uint64(h.u32(52))+7)&^7, maxBonus
	case kindFreeObjects, kindFree, KindEnd, kindObjectRange:
	case kindWriteByRef, kindRedact:
		return 0, fmt.Errorf("a record %s, which no stream of ours has", h.Kind())
	default:
		return 0, fmt.Errorf("a %s, which is not known", h.Kind())
	}
	if n > most {
		return 0, fmt.Errorf("a record %s of %d bytes, and %d is the most", h.Kind(), n, most)
	}
	if n%4 != 0 { // the checksum goes over words
		return 0, fmt.Errorf("a record %s of %d bytes, which is no multiple of 4", h.Kind(), n)
	}
	return int(n), nil
}

// CheckBegin refuses what is not the beginning of a stream of one snapshot.
func (h *Head) CheckBegin() error {
	switch {
	case h.Kind() != kindBegin:
		return fmt.Errorf("it begins with %s", h.Kind())
	case h.u64(8) != streamMagic:
		return fmt.Errorf("it begins with the magic number %#x", h.u64(8))
	case h.streamType() != substream:
		return fmt.Errorf("it is a package of several streams (-R, -I, -p), which ours are not")
	case h.Features()&^featuresKnown != 0:
		return fmt.Errorf("it uses features that are not known (%#x)", h.Features()&^featuresKnown)
	case h.ToGUID() == 0:
		return fmt.Errorf("it has no guid")
	}
	return nil
}

// dense tells whether a record's payload is compressed or encrypted, so that
// compressing it again would gain nothing.
func (h *Head) dense(features uint64) bool {
	switch h.Kind() {
	case kindWrite:
		return h[50] != 0 || features&FeatureRaw != 0
	case kindSpill:
		return features&FeatureRaw != 0
	}
	return false
}
