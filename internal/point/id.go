// Package point holds restore points, streams and their ids as values, and
// the local record: what this host knows of its restore points by name. It
// is no database: all that a restore needs is in the repository.
package point

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base32"
	"fmt"
	"strings"
	"time"
)

// alphabet is Crockford's base 32 in lower case: in order, no letter twice
// when read aloud (no i, l, o, u).
const alphabet = "0123456789abcdefghjkmnpqrstvwxyz"

// idLength is 80 bits: 48 of milliseconds since 1970, 32 of chance. In an id of
// NewIDBy the last 16 of these are as good as chance to all but its maker.
const (
	idLength   = 16
	idTime     = 6 // bytes
	idUnsigned = 8 // bytes before those that say who made it
)

// ID names a restore point or a stream. It has a fixed width, and sorts by
// the time it was made. The zero value means none.
type ID string

func encoding() *base32.Encoding {
	return base32.NewEncoding(alphabet).WithPadding(base32.NoPadding)
}

// NewID makes an id for this instant.
func NewID(now time.Time) ID { return NewIDBy(now, "") }

// NewIDBy makes an id for this instant of which By tells that it was made by
// that installation of snapd; "" is none. It tells nothing to a reader that
// does not know what by is.
func NewIDBy(now time.Time, by string) ID {
	var raw [10]byte
	ms := now.UnixMilli()
	for i := range idTime {
		raw[i] = byte(ms >> (40 - 8*i))
	}
	rand.Read(raw[idTime:])
	if by != "" {
		copy(raw[idUnsigned:], madeBy(raw[:idUnsigned], by))
	}
	return ID(encoding().EncodeToString(raw[:]))
}

// By tells whether NewIDBy made the id for that installation. Of one of another,
// or of an older version, it is wrong once in 65,536 times.
func (id ID) By(by string) bool {
	raw, err := encoding().DecodeString(string(id))
	return err == nil && len(raw) == 10 && by != "" && string(madeBy(raw[:idUnsigned], by)) == string(raw[idUnsigned:])
}

func madeBy(id []byte, by string) []byte {
	sum := sha256.Sum256(fmt.Appendf(nil, "snapd id %s %x", by, id))
	return sum[:10-idUnsigned]
}

// ParseID accepts what String gives and nothing else.
func ParseID(s string) (ID, error) {
	if len(s) != idLength || strings.Trim(s, alphabet) != "" {
		return "", fmt.Errorf("%q is not an id (%d characters of 0-9 and a-z without i, l, o, u)", s, idLength)
	}
	return ID(s), nil
}

func (id ID) String() string { return string(id) }

// Time is when the id was made, in milliseconds, UTC.
func (id ID) Time() time.Time {
	raw, err := encoding().DecodeString(string(id))
	if err != nil || len(raw) != 10 {
		return time.Time{}
	}
	var ms int64
	for _, b := range raw[:idTime] {
		ms = ms<<8 | int64(b)
	}
	return time.UnixMilli(ms).UTC()
}
