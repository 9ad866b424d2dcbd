package fstest

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"

	"snapd/internal/fs"
)

// The kinds of records of a stream. A record is its kind, the length of what it
// carries, that, and a checksum of all these with the record's number, so that
// none can be missing or stand elsewhere.
const (
	recordBegin = 'B' // streamHead
	recordGone  = 'G' // a path
	recordNode  = 'N' // nodeRecord
	recordData  = 'D' // offset and bytes of the node before
	recordZero  = 'Z' // offset of a block of the node before
	recordEnd   = 'E' // the number of records

	recordMax = 1 << 20 // bytes
)

// streamHead says what a stream is.
type streamHead struct {
	Magic   string
	Dataset string // GUID
	GUID    string
	Base    string // GUID, "" in a full stream
}

const streamMagic = "snapd test stream 1"

// nodeRecord is a node that is new or another than in the base.
type nodeRecord struct {
	Path []byte // any bytes
	node
}

var crcTable = crc32.MakeTable(crc32.Castagnoli)

func checksum(number uint64, record []byte) uint32 {
	sum := crc32.Update(0, crcTable, binary.BigEndian.AppendUint64(nil, number))
	return crc32.Update(sum, crcTable, record)
}

func encodeRecord(number uint64, kind byte, payload []byte) []byte {
	out := append(make([]byte, 0, len(payload)+9), kind)
	out = binary.BigEndian.AppendUint32(out, uint32(len(payload)))
	out = append(out, payload...)
	return binary.BigEndian.AppendUint32(out, checksum(number, out))
}

// Format implements fs.Driver.
func (m *Memory) Format(ctx context.Context, s fs.Snapshot) (format string, fixed bool, err error) {
	if err := m.enter(ctx, "Format"); err != nil {
		return "", m.Fixed, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, err := m.find(s); err != nil {
		return "", m.Fixed, err
	}
	return cmp.Or(m.Stream, "memory-1"), m.Fixed, nil
}

func (m *Memory) find(s fs.Snapshot) (*memorySnapshot, error) {
	if d := m.datasets[s.Dataset.GUID]; d != nil {
		for _, o := range d.snaps {
			if o.GUID == s.GUID {
				return o, nil
			}
		}
	}
	return nil, fmt.Errorf("snapshot %s (%s): %w", s.Name, s.GUID, fs.ErrNotFound)
}

// Send implements fs.Driver.
func (m *Memory) Send(ctx context.Context, snapshot fs.Snapshot, base *fs.Snapshot) (io.ReadCloser, error) {
	if err := m.enter(ctx, "Send"); err != nil {
		return nil, err
	}
	s, err := m.open(ctx, snapshot, base)
	if err != nil {
		return nil, err
	}
	return m.dress(s), nil
}

// dress gives a stream the capabilities that it is to have.
func (m *Memory) dress(s *memoryStream) io.ReadCloser {
	switch {
	case m.Resumes:
		return &tellingStream{&notedStream{s, m.StreamNotes}}
	case len(m.StreamNotes) > 0:
		return &notedStream{s, m.StreamNotes}
	}
	return s
}

func (m *Memory) open(ctx context.Context, snapshot fs.Snapshot, base *fs.Snapshot) (*memoryStream, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	snap, err := m.find(snapshot)
	if err != nil {
		return nil, err
	}
	head := streamHead{Magic: streamMagic, Dataset: snap.Dataset.GUID, GUID: snap.GUID}
	var before image
	if base != nil {
		b, err := m.find(*base)
		if err != nil {
			b = m.marks[base.GUID]
		}
		if b == nil || b.Dataset.GUID != snap.Dataset.GUID || b.Order >= snap.Order {
			return nil, fmt.Errorf("send %s from %s: %w", snapshot.Name, base.Name, fs.ErrBase)
		}
		head.Base, before = b.GUID, b.image
	}
	begin, err := json.Marshal(head)
	if err != nil {
		return nil, err
	}
	return &memoryStream{ctx: ctx, head: head, parts: append(records{{recordBegin, func() []byte { return begin }}}, difference(before, snap.image)...)}, nil
}

// record makes what a record carries when it is its turn.
type record struct {
	kind byte
	make func() []byte
}

type records []record

// difference is what makes one image of another, in an order that is the same
// each time.
func difference(before, after image) records {
	var out records
	for _, path := range slices.Sorted(maps.Keys(before)) {
		if after[path] == nil {
			out = append(out, record{recordGone, func() []byte { return []byte(path) }})
		}
	}
	for _, path := range slices.Sorted(maps.Keys(after)) {
		n, was := after[path], before[path]
		if was == nil {
			was = &node{}
		}
		var blocks records
		for _, at := range slices.Sorted(maps.Keys(was.blocks)) {
			if n.blocks[at] == nil {
				blocks = append(blocks, record{recordZero, func() []byte { return binary.BigEndian.AppendUint64(nil, uint64(at)) }})
			}
		}
		for _, at := range slices.Sorted(maps.Keys(n.blocks)) {
			if b := n.blocks[at]; !bytes.Equal(b, was.blocks[at]) {
				blocks = append(blocks, record{recordData, func() []byte { return append(binary.BigEndian.AppendUint64(nil, uint64(at)), b...) }})
			}
		}
		text := func(n *node) []byte {
			text, _ := json.Marshal(nodeRecord{[]byte(path), *n}) // numbers and bytes
			return text
		}
		if len(blocks) > 0 || !bytes.Equal(text(n), text(was)) {
			out = append(append(out, record{recordNode, func() []byte { return text(n) }}), blocks...)
		}
	}
	return out
}

// memoryStream makes its records as it is read.
type memoryStream struct {
	ctx  context.Context //nolint:containedctx // of the one Send that made it
	head streamHead

	mu     sync.Mutex
	parts  records
	number uint64 // of the next record
	out    []byte
	ended  bool
	closed bool
	at     int64
}

func (s *memoryStream) Read(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return 0, os.ErrClosed
	}
	if err := s.ctx.Err(); err != nil {
		return 0, err
	}
	for len(s.out) == 0 {
		if s.ended {
			return 0, io.EOF
		}
		if len(s.parts) == 0 {
			s.out, s.ended = encodeRecord(s.number, recordEnd, binary.BigEndian.AppendUint64(nil, s.number)), true
			break
		}
		s.out = encodeRecord(s.number, s.parts[0].kind, s.parts[0].make())
		s.parts, s.number = s.parts[1:], s.number+1
	}
	n := copy(p, s.out)
	s.out, s.at = s.out[n:], s.at+int64(n)
	return n, nil
}

func (s *memoryStream) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed, s.parts = true, nil
	return nil
}

func (s *memoryStream) state() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return stateAt(s.head, s.at)
}

func stateAt(h streamHead, at int64) string { return fmt.Sprintf("%s on %s at %d", h.GUID, h.Base, at) }

// notedStream is a stream with fs.Noter, tellingStream one with fs.Stater and
// fs.Denser too.
type (
	notedStream struct {
		*memoryStream
		notes []string
	}
	tellingStream struct{ *notedStream }
)

var (
	_ fs.Noter  = (*notedStream)(nil)
	_ fs.Stater = (*tellingStream)(nil)
	_ fs.Denser = (*tellingStream)(nil)
)

func (s *notedStream) Notes() []string { return s.notes }
func (s *tellingStream) State() string { return s.state() }
func (s *tellingStream) Dense() int64  { return 0 }

var errNoStream = errors.New("this is no whole stream of a driver in memory")

// CheckStream reads a stream of Memory to its end.
func CheckStream(ctx context.Context, r io.Reader) error {
	_, err := decodeStream(ctx, r, nil)
	return err
}

// decodeStream reads a stream to its end and makes the image that it carries;
// base finds what it builds on, once its head is read.
func decodeStream(ctx context.Context, r io.Reader, base func(streamHead) (image, error)) (image, error) {
	d := decoder{ctx: ctx, r: bufio.NewReaderSize(r, blockSize)}
	im, err := d.all(base)
	if err != nil {
		return nil, err
	}
	if _, err := d.r.ReadByte(); !errors.Is(err, io.EOF) {
		if err == nil {
			err = fmt.Errorf("%w: something follows its end", errNoStream)
		}
		return nil, err
	}
	return im, ctx.Err()
}

type decoder struct {
	ctx    context.Context //nolint:containedctx // of the one call that reads the stream
	r      *bufio.Reader
	number uint64
}

func (d *decoder) record() (kind byte, payload []byte, err error) {
	if err := d.ctx.Err(); err != nil {
		return 0, nil, err
	}
	head := make([]byte, 5)
	if _, err := io.ReadFull(d.r, head); err != nil {
		return 0, nil, cut(err)
	}
	length := binary.BigEndian.Uint32(head[1:])
	if length > recordMax {
		return 0, nil, fmt.Errorf("%w: record %d has %d bytes", errNoStream, d.number, length)
	}
	whole := append(head, make([]byte, length+4)...)
	if _, err := io.ReadFull(d.r, whole[5:]); err != nil {
		return 0, nil, cut(err)
	}
	body, sum := whole[:5+length], binary.BigEndian.Uint32(whole[5+length:])
	if checksum(d.number, body) != sum {
		return 0, nil, fmt.Errorf("%w: record %d has another checksum", errNoStream, d.number)
	}
	d.number++
	return body[0], body[5:], nil
}

func cut(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("%w: it is cut off: %w", errNoStream, io.ErrUnexpectedEOF)
	}
	return err
}

func (d *decoder) all(base func(streamHead) (image, error)) (image, error) {
	kind, payload, err := d.record()
	if err != nil {
		return nil, err
	}
	var head streamHead
	if err := json.Unmarshal(payload, &head); err != nil || kind != recordBegin || head.Magic != streamMagic {
		return nil, fmt.Errorf("%w: it begins with a record %q", errNoStream, kind)
	}
	im := image{}
	if base != nil {
		before, err := base(head)
		if err != nil {
			return nil, err
		}
		im = before.clone()
	}
	var last *node
	for {
		number := d.number
		kind, payload, err := d.record()
		if err != nil {
			return nil, err
		}
		if kind == recordEnd {
			if len(payload) != 8 || binary.BigEndian.Uint64(payload) != number {
				return nil, fmt.Errorf("%w: its end is of another one", errNoStream)
			}
			return im, nil
		}
		if last, err = im.add(kind, payload, last); err != nil {
			return nil, fmt.Errorf("%w: record %d: %w", errNoStream, number, err)
		}
	}
}

// add applies a record; last is the node of the one before.
func (im image) add(kind byte, payload []byte, last *node) (*node, error) {
	switch kind {
	case recordGone:
		delete(im, string(payload))
		return nil, nil
	case recordNode:
		var r nodeRecord
		if err := json.Unmarshal(payload, &r); err != nil {
			return nil, err
		}
		path := string(r.Path)
		if path == "" || path[0] == '/' || slices.Contains(strings.Split(path, "/"), "..") {
			return nil, fmt.Errorf("%q is no path of a tree", path)
		}
		r.blocks = map[int64][]byte{}
		if was := im[path]; was != nil && was.blocks != nil {
			r.blocks = was.blocks
		}
		im[path] = &r.node
		return im[path], nil
	case recordData, recordZero:
		if last == nil || len(payload) < 8 {
			return nil, errors.New("it belongs to no file")
		}
		at := int64(binary.BigEndian.Uint64(payload))
		if kind == recordZero {
			delete(last.blocks, at)
		} else {
			last.blocks[at] = payload[8:]
		}
		return last, nil
	}
	return nil, fmt.Errorf("a record of kind %q", kind)
}
