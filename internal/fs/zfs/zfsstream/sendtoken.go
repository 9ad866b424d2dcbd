package zfsstream

import (
	"bytes"
	"compress/zlib"
	"encoding/binary"
	"encoding/hex"
	"fmt"
)

// Token is what zfs send -t takes: where to go on with which stream. The
// kernel's receiver makes such tokens; the sender only looks whether they are
// well formed and whether the snapshots exist. So a program that has read the
// stream, as this one, can make them too.
type Token struct {
	Name     string // of the snapshot, as it is called now
	ToGUID   uint64
	FromGUID uint64 // 0 for a full stream
	Object   uint64
	Offset   uint64
	Bytes    uint64 // that came before; for estimates only
	Features uint64 // of the stream
}

// String is the token as text: version, checksum and length of the packed
// list, and the list itself, compressed.
func (t Token) String() string {
	var l nvlist
	l.string("toname", t.Name)
	l.uint64("object", t.Object)
	l.uint64("offset", t.Offset)
	l.uint64("bytes", t.Bytes)
	l.uint64("toguid", t.ToGUID)
	if t.FromGUID != 0 {
		l.uint64("fromguid", t.FromGUID)
	}
	for _, flag := range []struct {
		bit  uint64
		name string
	}{
		{FeatureLargeBlocks, "largeblockok"},
		{FeatureEmbedded, "embedok"},
		{featureCompressed, "compressok"},
		{FeatureRaw, "rawok"},
	} {
		if t.Features&flag.bit != 0 {
			l.boolean(flag.name)
		}
	}
	packed := l.pack()
	var out bytes.Buffer
	z := zlib.NewWriter(&out)
	_, _ = z.Write(packed) // into memory
	_ = z.Close()
	sum := fletcherOf(out.Bytes()[:out.Len()&^3]) // zfs leaves the odd bytes out
	return fmt.Sprintf("1-%x-%x-%s", sum[0], len(packed), hex.EncodeToString(out.Bytes()))
}

// nvlist builds a list of names and values in XDR, as libnvpair packs it.
type nvlist struct{ pairs []byte }

// Types of values (nvpair.h).
const (
	nvBoolean = 1
	nvUint64  = 8
	nvString  = 9
)

func (l *nvlist) boolean(name string) { l.pair(name, nvBoolean, 0, 0, nil) }

func (l *nvlist) uint64(name string, v uint64) {
	l.pair(name, nvUint64, 1, 8, binary.BigEndian.AppendUint64(nil, v))
}

func (l *nvlist) string(name, v string) {
	l.pair(name, nvString, 1, align(len(v)+1, 8), xdrString(nil, v))
}

// pair adds one. Beside its own length each carries the one that it will have
// in memory: a header of 16 bytes, the name with its end, the value.
func (l *nvlist) pair(name string, kind, count uint32, inMemory int, value []byte) {
	body := xdrString(nil, name)
	body = binary.BigEndian.AppendUint32(body, kind)
	body = binary.BigEndian.AppendUint32(body, count)
	body = append(body, value...)
	l.pairs = binary.BigEndian.AppendUint32(l.pairs, uint32(8+len(body)))
	l.pairs = binary.BigEndian.AppendUint32(l.pairs, uint32(align(16+len(name)+1, 8)+inMemory))
	l.pairs = append(l.pairs, body...)
}

// pack is the list with its header (XDR, little-endian host; version 0, names
// unique) and its end.
func (l *nvlist) pack() []byte {
	out := []byte{1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1}
	out = append(out, l.pairs...)
	return append(out, 0, 0, 0, 0, 0, 0, 0, 0)
}

func xdrString(b []byte, s string) []byte {
	b = binary.BigEndian.AppendUint32(b, uint32(len(s)))
	b = append(b, s...)
	return append(b, make([]byte, align(len(s), 4)-len(s))...)
}

func align(n, to int) int { return (n + to - 1) / to * to }
