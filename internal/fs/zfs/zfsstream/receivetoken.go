package zfsstream

import (
	"bytes"
	"compress/zlib"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
)

// A list of names and values as the kernel packs it for itself (native, on a
// little-endian host): 4 bytes of encoding, version, flags; then pairs, each
// with its size, the name's length, the number of elements, the type, the name
// and the value; then a size of 0. The source is nvpair.c of OpenZFS.
const (
	nativeHead = 12
	nativePair = 16 // of a pair, before its name
	mostToken  = 1 << 16
)

// addNative adds numbers to the front of a packed list, or makes one of them.
func addNative(packed []byte, pairs ...nativeUint64) ([]byte, error) {
	if len(packed) == 0 {
		packed = []byte{0, 1, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0} // names are unique; no pairs
	}
	if len(packed) < nativeHead || packed[0] != 0 || packed[1] != 1 {
		return nil, errors.New("the list in its BEGIN is not packed as a little-endian host does")
	}
	out := bytes.Clone(packed[:nativeHead])
	for _, p := range pairs {
		value := align(nativePair+len(p.name)+1, 8)
		b := make([]byte, value+8)
		binary.LittleEndian.PutUint32(b, uint32(len(b)))
		binary.LittleEndian.PutUint16(b[4:], uint16(len(p.name)+1))
		binary.LittleEndian.PutUint32(b[8:], 1)
		binary.LittleEndian.PutUint32(b[12:], nvUint64)
		copy(b[nativePair:], p.name)
		binary.LittleEndian.PutUint64(b[value:], p.value)
		out = append(out, b...)
	}
	return append(out, packed[nativeHead:]...), nil
}

type nativeUint64 struct {
	name  string
	value uint64
}

// nativeNumbers are the numbers in a packed list.
func nativeNumbers(packed []byte) (map[string]uint64, error) {
	if len(packed) < nativeHead || packed[0] != 0 || packed[1] != 1 {
		return nil, errors.New("it is not packed as a little-endian host does")
	}
	out := make(map[string]uint64)
	for rest := packed[nativeHead:]; ; {
		if len(rest) < 4 {
			return nil, errors.New("its list is cut off")
		}
		size := int(binary.LittleEndian.Uint32(rest))
		if size == 0 {
			return out, nil
		}
		if size < nativePair || size > len(rest) {
			return nil, fmt.Errorf("a pair of %d bytes in its list", size)
		}
		pair := rest[:size]
		rest = rest[size:]
		name := int(binary.LittleEndian.Uint16(pair[4:]))
		value := align(nativePair+name, 8)
		if name == 0 || value > size {
			return nil, errors.New("a name in its list is too long")
		}
		if binary.LittleEndian.Uint32(pair[12:]) == nvUint64 && value+8 <= size {
			out[string(pair[nativePair:nativePair+name-1])] = binary.LittleEndian.Uint64(pair[value:])
		}
	}
}

// Left is what the kernel says of a receive that was interrupted.
type Left struct {
	ToGUID, fromGUID uint64
	object, offset   uint64 // the record that it got last, with which it wants to go on
	bytes            uint64 // of the stream, that it had read; a little more when it was gone on with before
}

// ParseToken reads what zfs get receive_resume_token says.
func ParseToken(text string) (Left, error) {
	l, err := readToken(text)
	if err != nil {
		return Left{}, fmt.Errorf("the token of an interrupted receive: %w", err)
	}
	return l, nil
}

func readToken(text string) (Left, error) {
	part := strings.Split(text, "-")
	if len(part) != 4 || part[0] != "1" {
		return Left{}, errors.New("it is of another version")
	}
	length, err := strconv.ParseUint(part[2], 16, 32)
	if err != nil || length > mostToken {
		return Left{}, fmt.Errorf("its length is %q", part[2])
	}
	compressed, err := hex.DecodeString(part[3])
	if err != nil {
		return Left{}, err
	}
	z, err := zlib.NewReader(bytes.NewReader(compressed))
	if err != nil {
		return Left{}, err
	}
	packed, err := io.ReadAll(io.LimitReader(z, int64(length)+1))
	if err != nil {
		return Left{}, err
	}
	if len(packed) != int(length) {
		return Left{}, fmt.Errorf("it holds %d bytes and says %d", len(packed), length)
	}
	n, err := nativeNumbers(packed)
	if err != nil {
		return Left{}, err
	}
	l := Left{ToGUID: n["toguid"], fromGUID: n["fromguid"], object: n["object"], offset: n["offset"], bytes: n["bytes"]}
	if l.ToGUID == 0 || l.object == 0 {
		return Left{}, errors.New("it does not say where to go on")
	}
	return l, nil
}
