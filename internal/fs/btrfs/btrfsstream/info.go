// Package btrfsstream reads send streams of Btrfs, checks that one is whole, and
// rewrites one on its way to btrfs receive. It needs no Btrfs and no right, so
// that a stream can be checked where there is none.
package btrfsstream

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// Info is what a send stream says about itself.
type Info struct {
	Version  uint32 // of the protocol, 1 to 3
	GUID     string // of the snapshot that it makes
	CTransID uint64 // the generation in which that was last changed
	Base     string // GUID of the snapshot that it builds on, "" for a full stream
	Name     string // of the snapshot where it was sent
	Bytes    int64
	Commands int64
}

// Format is the stream's format as it stands in a manifest.
func (i Info) Format() string { return FormatName(i.Version) }

// FormatName is the name in a manifest of the format of a protocol version.
func FormatName(version uint32) string { return fmt.Sprintf("btrfs-%d", version) }

// Check reads one whole send stream and says what is in it. Anything
// else, such as a stream that is cut off or has one bit flipped, gives
// ErrInvalid; an error of the reader is returned as it is. It needs no Btrfs
// and about 1.5 MiB at most, however long the stream.
func Check(r io.Reader) (Info, error) {
	info, err := checkStream(r)
	if err != nil {
		return Info{}, fmt.Errorf("check Btrfs stream: %w", err)
	}
	return info, nil
}

func checkStream(r io.Reader) (Info, error) {
	c, err := newCommandReader(r)
	if err != nil {
		return Info{}, err
	}
	var first beginning
	for {
		kind, raw, err := c.next()
		if errors.Is(err, io.EOF) {
			info := first.info(c.Version)
			info.Bytes, info.Commands = c.offset, c.count
			return info, nil
		}
		if err != nil {
			return Info{}, err
		}
		if kind == cmdSubvol || kind == cmdSnapshot {
			if first, err = parseBeginning(kind, raw); err != nil {
				return Info{}, err
			}
		}
	}
}

// beginning is the first command of a stream.
type beginning struct {
	path          string
	UUID          UUID
	ctransid      uint64
	cloneUUID     UUID // zero in a full stream
	cloneCTransID uint64
}

func parseBeginning(kind uint16, raw []byte) (beginning, error) {
	var b beginning
	err := attributes(raw, func(attr uint16, value []byte) error {
		switch attr {
		case attrPath:
			b.path = string(value)
		case attrUUID:
			return b.UUID.set(value)
		case attrCloneUUID:
			return b.cloneUUID.set(value)
		case attrCTransID:
			return setNumber(&b.ctransid, value)
		case attrCloneCTransID:
			return setNumber(&b.cloneCTransID, value)
		}
		return nil
	})
	if err != nil {
		return b, err
	}
	if b.path == "" || b.UUID.IsZero() || b.cloneUUID.IsZero() != (kind == cmdSubvol) {
		return b, fmt.Errorf("%w: its first command lacks a name or identity", ErrInvalid)
	}
	return b, nil
}

func (b beginning) info(version uint32) Info {
	info := Info{Version: version, GUID: b.UUID.String(), CTransID: b.ctransid, Name: b.path}
	if !b.cloneUUID.IsZero() {
		info.Base = b.cloneUUID.String()
	}
	return info
}

func (u *UUID) set(value []byte) error {
	if len(value) != len(u) {
		return fmt.Errorf("%w: a UUID of %d bytes", ErrInvalid, len(value))
	}
	copy(u[:], value)
	return nil
}

func setNumber(n *uint64, value []byte) error {
	if len(value) != 8 {
		return fmt.Errorf("%w: a number of %d bytes", ErrInvalid, len(value))
	}
	*n = binary.LittleEndian.Uint64(value)
	return nil
}
