package btrfsstream

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"math"
)

// A send stream is a header (magic, version) and commands (length of the
// body, kind, checksum, body). Bodies are attributes (kind, length, value).
// All numbers are little-endian. The source is fs/btrfs/send.h of the kernel.
const (
	streamMagic      = "btrfs-stream\x00"
	streamHeaderSize = len(streamMagic) + 4
	streamVersionMax = 3

	commandHeaderSize = 10
	// The kernel's own buffers are 64 KiB in version 1 and, since one
	// compressed extent with its page and attributes must fit, under 256 KiB
	// in later ones.
	commandMaxV1 = 64 << 10
	commandMaxV2 = 1 << 20
)

const (
	cmdSubvol   = 1
	cmdSnapshot = 2
	cmdRename   = 9
	cmdClone    = 16
	cmdUtimes   = 20
	cmdEnd      = 21

	cmdLastV1 = 22
	cmdLastV2 = 25
	cmdLastV3 = 26
)

const (
	attrUUID          = 1
	attrCTransID      = 2
	attrCTime         = 9
	attrMTime         = 10
	attrATime         = 11
	attrPath          = 15
	attrPathTo        = 16
	attrFileOffset    = 18
	attrCloneUUID     = 20
	attrCloneCTransID = 21
)

// ErrInvalid says that bytes are not one whole Btrfs send stream.
var ErrInvalid = errors.New("not a whole Btrfs stream")

// commandReader reads a stream command by command and checks all that can be
// checked without applying it. It keeps one command at a time.
type commandReader struct {
	r       *bufio.Reader
	Version uint32
	offset  int64 // bytes read
	count   int64 // commands read
	Ended   bool
	buf     []byte
}

func newCommandReader(r io.Reader) (*commandReader, error) {
	c := &commandReader{r: bufio.NewReaderSize(r, 128<<10)}
	var header [streamHeaderSize]byte
	if err := c.read(header[:]); err != nil {
		return nil, err
	}
	if string(header[:len(streamMagic)]) != streamMagic {
		return nil, c.damaged("it starts with %q", header[:len(streamMagic)])
	}
	c.Version = binary.LittleEndian.Uint32(header[len(streamMagic):])
	if c.Version < 1 || c.Version > streamVersionMax {
		return nil, c.damaged("its version is %d, and 1 to %d are known", c.Version, streamVersionMax)
	}
	return c, nil
}

func (c *commandReader) damaged(format string, args ...any) error {
	return fmt.Errorf("%w: before byte %d: %s", ErrInvalid, c.offset, fmt.Sprintf(format, args...))
}

// read fills p. A stream that ends here is a cut one.
func (c *commandReader) read(p []byte) error {
	n, err := io.ReadFull(c.r, p)
	c.offset += int64(n)
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return c.damaged("it is cut off")
	}
	return err
}

// next returns the next command with its header, valid until the following
// call. It returns io.EOF after the last command of a whole stream.
func (c *commandReader) next() (kind uint16, raw []byte, err error) {
	if c.Ended {
		return 0, nil, io.EOF
	}
	c.buf = grow(c.buf, commandHeaderSize)
	if err := c.read(c.buf); err != nil {
		return 0, nil, err
	}
	length := binary.LittleEndian.Uint32(c.buf)
	kind = binary.LittleEndian.Uint16(c.buf[4:])
	if limit := c.limit(); length > limit {
		return 0, nil, c.damaged("a command of %d bytes, and %d is the most", length, limit)
	}
	if err := c.checkOrder(kind); err != nil {
		return 0, nil, err
	}
	c.buf = grow(c.buf, commandHeaderSize+int(length))
	if err := c.read(c.buf[commandHeaderSize:]); err != nil {
		return 0, nil, err
	}
	if want, got := binary.LittleEndian.Uint32(c.buf[6:]), checksum(c.buf); want != got {
		return 0, nil, c.damaged("the checksum of a command does not match (%08x, should be %08x)", got, want)
	}
	c.count++
	if kind == cmdEnd {
		if err := c.end(); err != nil {
			return 0, nil, err
		}
	}
	return kind, c.buf, nil
}

// end makes sure that nothing follows.
func (c *commandReader) end() error {
	c.Ended = true
	_, err := c.r.ReadByte()
	if errors.Is(err, io.EOF) {
		return nil
	}
	if err == nil {
		err = c.damaged("something follows its end")
	}
	return err
}

func (c *commandReader) limit() uint32 {
	if c.Version == 1 {
		return commandMaxV1
	}
	return commandMaxV2
}

// checkOrder wants what the subvolume is called first, and only once.
func (c *commandReader) checkOrder(kind uint16) error {
	last := uint16(cmdLastV3)
	switch c.Version {
	case 1:
		last = cmdLastV1
	case 2:
		last = cmdLastV2
	}
	names := kind == cmdSubvol || kind == cmdSnapshot
	switch {
	case kind == 0 || kind > last:
		return c.damaged("command %d, which version %d does not have", kind, c.Version)
	case c.count == 0 && !names:
		return c.damaged("it does not begin with a subvolume or snapshot")
	case c.count > 0 && names:
		return c.damaged("a second subvolume begins")
	}
	return nil
}

// checksum is the crc32c of a command as the kernel makes it: over header and
// body with the checksum itself zero, begun with zero and not inverted at the
// end.
func checksum(raw []byte) uint32 {
	table := crc32.MakeTable(crc32.Castagnoli)
	var header [commandHeaderSize]byte
	copy(header[:6], raw)
	sum := crc32.Update(math.MaxUint32, table, header[:])
	return ^crc32.Update(sum, table, raw[commandHeaderSize:])
}

// grow returns b with length n, keeping what it held.
func grow(b []byte, n int) []byte {
	if n <= cap(b) {
		return b[:n]
	}
	bigger := make([]byte, n, max(n, 2*cap(b)))
	copy(bigger, b)
	return bigger
}

// attributes calls each for every attribute of a command without data.
func attributes(raw []byte, each func(kind uint16, value []byte) error) error {
	for rest := raw[commandHeaderSize:]; len(rest) > 0; {
		if len(rest) < 4 {
			return fmt.Errorf("%w: an attribute's header is cut off", ErrInvalid)
		}
		kind, length := binary.LittleEndian.Uint16(rest), int(binary.LittleEndian.Uint16(rest[2:]))
		rest = rest[4:]
		if length > len(rest) {
			return fmt.Errorf("%w: an attribute of %d bytes in a command with %d left", ErrInvalid, length, len(rest))
		}
		if err := each(kind, rest[:length]); err != nil {
			return err
		}
		rest = rest[length:]
	}
	return nil
}

// appendAttribute adds an attribute to a command that is being built.
func appendAttribute(raw []byte, kind uint16, value []byte) []byte {
	raw = binary.LittleEndian.AppendUint16(raw, kind)
	raw = binary.LittleEndian.AppendUint16(raw, uint16(len(value)))
	return append(raw, value...)
}

// finishCommand fills in the header of a command whose body is complete.
func finishCommand(raw []byte, kind uint16) {
	binary.LittleEndian.PutUint32(raw, uint32(len(raw)-commandHeaderSize))
	binary.LittleEndian.PutUint16(raw[4:], kind)
	binary.LittleEndian.PutUint32(raw[6:], checksum(raw))
}
