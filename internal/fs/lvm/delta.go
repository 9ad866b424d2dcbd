package lvm

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"snapd/internal/fs/lvm/lvmstream"
	"snapd/internal/run"

	"golang.org/x/sys/unix"
)

// extent is a piece of a volume, in bytes.
type extent struct {
	kind   byte // recordData or recordDiscard
	offset int64
	length int64
}

// mapping is one line of thin_delta, in blocks of the pool.
type mapping struct {
	kind   mappingKind
	begin  int64
	length int64
}

type mappingKind byte

const (
	same      mappingKind = 's' // both snapshots share it
	different mappingKind = 'd'
	leftOnly  mappingKind = 'l' // only the base has it: it was discarded
	rightOnly mappingKind = 'r'
)

// errThinDelta says that what thin_delta printed is not understood, or that it
// could not read the metadata: then blocks have to be compared.
var errThinDelta = errors.New("the pool's metadata cannot be read")

// changed finds out what differs between two thin snapshots (base may be the
// snapshot itself: then what is there at all) and spools it, so that the
// metadata snapshot is there for no longer than that takes.
func (d *Driver) changed(ctx context.Context, pool volume, base, snapshot uint64) (_ *spool, err error) {
	dir, err := d.stateDir("spool")
	if err != nil {
		return nil, err
	}
	s, err := newSpool(dir)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.Close())
		}
	}()
	held, err := d.holdMetadata(ctx, pool)
	if err != nil {
		return nil, err
	}
	read := s.fill(ctx, []string{
		"thin_delta", "-m", "--thin1", strconv.FormatUint(base, 10), "--thin2", strconv.FormatUint(snapshot, 10),
		"/dev/mapper/" + dmName(pool.vg, pool.name+"_tmeta", ""),
	})
	if err := errors.Join(read, held.release(ctx)); err != nil {
		return nil, err
	}
	return s, s.rewind()
}

// spool keeps mappings in a file that has no name any more.
type spool struct {
	f     *os.File
	w     *bufio.Writer
	r     *bufio.Reader
	block int64 // bytes
	last  int64 // end of the last mapping, in blocks
}

func newSpool(dir string) (*spool, error) {
	f, err := os.CreateTemp(dir, "delta-")
	if err != nil {
		return nil, fmt.Errorf("spool what changed: %w", err)
	}
	if err := os.Remove(f.Name()); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return &spool{f: f, w: bufio.NewWriter(f)}, nil
}

// fill runs thin_delta.
func (s *spool) fill(ctx context.Context, argv []string) error {
	out, err := run.Pipe(ctx, argv...)
	if err == nil {
		err = s.parse(out)
		err = errors.Join(err, out.Close())
	}
	if err != nil && ctx.Err() == nil {
		return fmt.Errorf("%w: %w", errThinDelta, err)
	}
	return err
}

// parse reads what thin_delta prints, line by line.
func (s *spool) parse(out io.Reader) error {
	lines := bufio.NewScanner(out)
	whole := false
	for lines.Scan() {
		tag, attributes := parseTag(lines.Text())
		switch tag {
		case "superblock":
			sectors, err := strconv.ParseInt(attributes["data_block_size"], 10, 64)
			if err != nil || sectors <= 0 {
				return fmt.Errorf("thin_delta: the block size is %q", attributes["data_block_size"])
			}
			s.block = sectors * lvmstream.Sector
		case "same", "different", "left_only", "right_only":
			if err := s.put(mappingKind(tag[0]), attributes); err != nil {
				return err
			}
		case "/superblock":
			whole = true
		case "", "diff", "/diff":
		default:
			return fmt.Errorf("thin_delta printed %q, which is not understood", lines.Text())
		}
	}
	if err := lines.Err(); err != nil {
		return err
	}
	if !whole || s.block == 0 {
		return errors.New("thin_delta printed no end")
	}
	return s.w.Flush()
}

// parseTag reads <name key="value" …/>.
func parseTag(line string) (name string, attributes map[string]string) {
	line = strings.TrimSpace(line)
	line = strings.TrimSuffix(strings.TrimSuffix(strings.TrimPrefix(line, "<"), ">"), "/")
	words := strings.Fields(line)
	if len(words) == 0 {
		return "", nil
	}
	attributes = make(map[string]string, len(words)-1)
	for _, w := range words[1:] {
		key, value, _ := strings.Cut(w, "=")
		attributes[key] = strings.Trim(value, `"`)
	}
	return words[0], attributes
}

func (s *spool) put(kind mappingKind, attributes map[string]string) error {
	begin, err1 := strconv.ParseInt(attributes["begin"], 10, 64)
	length, err2 := strconv.ParseInt(attributes["length"], 10, 64)
	if err := errors.Join(err1, err2); err != nil {
		return fmt.Errorf("thin_delta: a range without its numbers: %w", err)
	}
	if begin < s.last || length <= 0 || begin > 1<<46 || length > 1<<46 {
		return fmt.Errorf("thin_delta: the range %d+%d stands after one that ends at %d", begin, length, s.last)
	}
	var raw [1 + 2*binary.MaxVarintLen64]byte
	raw[0] = byte(kind)
	b := binary.AppendUvarint(raw[:1], uint64(begin-s.last))
	b = binary.AppendUvarint(b, uint64(length))
	s.last = begin + length
	_, err := s.w.Write(b)
	return err
}

func (s *spool) rewind() error {
	s.last = 0
	if _, err := s.f.Seek(0, io.SeekStart); err != nil {
		return fmt.Errorf("spool what changed: %w", err)
	}
	s.r = bufio.NewReader(s.f)
	return nil
}

// next returns the mappings in order, then io.EOF.
func (s *spool) next() (mapping, error) {
	kind, err := s.r.ReadByte()
	if err != nil {
		return mapping{}, err
	}
	gap, err1 := binary.ReadUvarint(s.r)
	length, err2 := binary.ReadUvarint(s.r)
	if err := errors.Join(err1, err2); err != nil {
		return mapping{}, fmt.Errorf("read back what changed: %w", errors.Join(err, io.ErrUnexpectedEOF))
	}
	m := mapping{mappingKind(kind), s.last + int64(gap), int64(length)}
	s.last = m.begin + m.length
	return m, nil
}

// count is the length of all mappings of some kinds together.
func (s *spool) count(kinds ...mappingKind) (blocks int64, err error) {
	for {
		m, err := s.next()
		if errors.Is(err, io.EOF) {
			return blocks, nil
		}
		if err != nil {
			return 0, err
		}
		if slices.Contains(kinds, m.kind) {
			blocks += m.length
		}
	}
}

// Close may be called on nil.
func (s *spool) Close() error {
	if s == nil {
		return nil
	}
	return s.f.Close()
}

// plan turns mappings into what a stream has to carry.
type plan struct {
	mappings interface{ next() (mapping, error) }
	block    int64
	head     lvmstream.Header
	waiting  extent // found, may still grow
	ended    bool
}

// next returns the extents in order, then io.EOF.
func (p *plan) next() (extent, error) {
	for !p.ended {
		m, err := p.mappings.next()
		if errors.Is(err, io.EOF) {
			p.ended = true
			break
		}
		if err != nil {
			return extent{}, err
		}
		for _, e := range p.extents(m) {
			if p.waiting.kind == e.kind && p.waiting.offset+p.waiting.length == e.offset {
				p.waiting.length += e.length
				continue
			}
			ready := p.waiting
			p.waiting = e
			if ready.length > 0 {
				return ready, nil
			}
		}
	}
	ready := p.waiting
	p.waiting = extent{}
	if ready.length == 0 {
		return extent{}, io.EOF
	}
	return ready, nil
}

// extents is one mapping, clipped to the volume. At most one comes of it.
func (p *plan) extents(m mapping) []extent {
	e := extent{kind: lvmstream.RecordData, offset: m.begin * p.block, length: m.length * p.block}
	switch m.kind {
	case leftOnly:
		e.kind = lvmstream.RecordDiscard
	case same:
		// What both have is known, but beyond the base's end: there the
		// base may have blocks from before it was made smaller, which
		// no stream has shipped.
		if p.head.Increment() {
			from := max(e.offset, p.head.BaseSize/p.block*p.block)
			e.length -= from - e.offset
			e.offset = from
		}
	}
	if over := e.offset + e.length - p.head.Size; over > 0 {
		e.length -= over
	}
	if e.length <= 0 {
		return nil
	}
	return []extent{e}
}

// awaitLock waits for a lock of one kind on a thing. It ends with its process.
func (d *Driver) awaitLock(ctx context.Context, kind, thing string) (*os.File, error) {
	dir, err := d.stateDir(kind)
	if err != nil {
		return nil, err
	}
	for {
		lock, err := lockFile(filepath.Join(dir, thing+".lock"), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil || !errors.Is(err, unix.EWOULDBLOCK) {
			return lock, err
		}
		if err := pause(ctx, lockAgain); err != nil {
			return nil, err
		}
	}
}

// lockFile takes a lock that ends with its process.
func lockFile(path string, how int) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), how); err != nil {
		return nil, errors.Join(&os.PathError{Op: "flock", Path: path, Err: err}, f.Close())
	}
	return f, nil
}
