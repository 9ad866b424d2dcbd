package zfs

import (
	"bytes"
	"encoding/binary"
	"fmt"
)

// A send stream is records of a header of 312 bytes and a payload. All numbers
// are little-endian; streams of big-endian hosts are refused. The source is
// zfs_ioctl.h of OpenZFS (dmu_replay_record_t).
const (
	headSize  = 312
	storedSum = headSize - fletcherSize // where a header holds the checksum of all before it

	streamMagic = 0x2F5bacbac
)

// kind is the type of a record.
type kind uint32

const (
	kindBegin kind = iota
	kindObject
	kindFreeObjects
	kindWrite
	kindFree
	kindEnd
	kindWriteByRef
	kindSpill
	kindWriteEmbedded
	kindObjectRange
	kindRedact
	kindCount
)

func (k kind) String() string {
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
	featureEmbedded      = 1 << 16
	featureLZ4           = 1 << 17
	featureLargeBlocks   = 1 << 19
	featureResuming      = 1 << 20
	featureRedacted      = 1 << 21
	featureCompressed    = 1 << 22
	featureLargeDnode    = 1 << 23
	featureRaw           = 1 << 24
	featureZstd          = 1 << 25
	featureHolds         = 1 << 26
	featureSwitchToLarge = 1 << 27
	featureLongName      = 1 << 28
	featureLargeMicrozap = 1 << 29

	featuresKnown = featureDedup | featureDedupProps | featureSpill | featureEmbedded | featureLZ4 | featureLargeBlocks |
		featureResuming | featureRedacted | featureCompressed | featureLargeDnode | featureRaw | featureZstd |
		featureHolds | featureSwitchToLarge | featureLongName | featureLargeMicrozap
)

const (
	typeFilesystem = 2 // DMU_OST_ZFS
	typeVolume     = 3 // DMU_OST_ZVOL

	substream = 1 // header type of a stream of one snapshot
)

// Bounds of payloads, in bytes. A block has at most 16 MiB; what cannot be
// compressed is stored as it is.
const (
	maxBlock = 16 << 20
	maxBonus = 64 << 10
	maxBegin = 1 << 20 // our streams have the place where they were resumed there, or keys that are wrapped
)

// head is the header of a record.
type head [headSize]byte

func (h *head) u32(at int) uint32 { return binary.LittleEndian.Uint32(h[at:]) }
func (h *head) u64(at int) uint64 { return binary.LittleEndian.Uint64(h[at:]) }

func (h *head) kind() kind { return kind(h.u32(0)) }

// object and offset are the place of a record: of OBJECT, WRITE, FREE, SPILL,
// WRITE_EMBEDDED.
func (h *head) object() uint64 { return h.u64(8) }

func (h *head) offset() uint64 {
	if h.kind() == kindWrite {
		return h.u64(24)
	}
	return 0
}

// start is where WRITE, WRITE_EMBEDDED and FREE begin in their object.
func (h *head) start() uint64 {
	if h.kind() == kindWrite {
		return h.u64(24)
	}
	return h.u64(16)
}

// Fields of BEGIN.
func (h *head) features() uint64    { return h.u64(16) >> 2 & (1<<30 - 1) }
func (h *head) streamType() uint64  { return h.u64(16) & 3 }
func (h *head) datasetType() uint32 { return h.u32(32) }
func (h *head) toGUID() uint64      { return h.u64(40) }
func (h *head) fromGUID() uint64    { return h.u64(48) }

func (h *head) toName() string {
	name, _, _ := bytes.Cut(h[56:], []byte{0})
	return string(name)
}

// guid is the guid of the snapshot that each record but BEGIN repeats.
func (h *head) guid() (guid uint64, there bool) {
	at := map[kind]int{
		kindObject: 40, kindFreeObjects: 24, kindWrite: 40, kindFree: 32, kindEnd: 40,
		kindSpill: 24, kindWriteEmbedded: 32, kindObjectRange: 24,
	}[h.kind()]
	if at == 0 {
		return 0, false
	}
	return h.u64(at), true
}

// payload is how many bytes follow the header, or why this cannot be a record.
func (h *head) payload() (int, error) {
	n, most := uint64(0), uint64(maxBlock)
	switch h.kind() {
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
	case kindFreeObjects, kindFree, kindEnd, kindObjectRange:
	case kindWriteByRef, kindRedact:
		return 0, fmt.Errorf("a record %s, which no stream of ours has", h.kind())
	default:
		return 0, fmt.Errorf("a %s, which is not known", h.kind())
	}
	if n > most {
		return 0, fmt.Errorf("a record %s of %d bytes, and %d is the most", h.kind(), n, most)
	}
	if n%4 != 0 { // the checksum goes over words
		return 0, fmt.Errorf("a record %s of %d bytes, which is no multiple of 4", h.kind(), n)
	}
	return int(n), nil
}

// checkBegin refuses what is not the beginning of a stream of one snapshot.
func (h *head) checkBegin() error {
	switch {
	case h.kind() != kindBegin:
		return fmt.Errorf("it begins with %s", h.kind())
	case h.u64(8) != streamMagic:
		return fmt.Errorf("it begins with the magic number %#x", h.u64(8))
	case h.streamType() != substream:
		return fmt.Errorf("it is a package of several streams (-R, -I, -p), which ours are not")
	case h.features()&^featuresKnown != 0:
		return fmt.Errorf("it uses features that are not known (%#x)", h.features()&^featuresKnown)
	case h.toGUID() == 0:
		return fmt.Errorf("it has no guid")
	}
	return nil
}

// dense tells whether a record's payload is compressed or encrypted, so that
// compressing it again would gain nothing.
func (h *head) dense(features uint64) bool {
	switch h.kind() {
	case kindWrite:
		return h[50] != 0 || features&featureRaw != 0
	case kindSpill:
		return features&featureRaw != 0
	}
	return false
}
