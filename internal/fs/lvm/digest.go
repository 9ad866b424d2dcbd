package lvm

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"snapd/internal/durable"
	"snapd/internal/fs"
	"snapd/internal/fs/lvm/lvmstream"
)

// The digests of a snapshot's blocks are kept in the state directory, a file for
// each snapshot that was sent: a line of JSON and then a digest for each unit,
// in order. They never leave this host: they would tell what is in a volume.
const (
	digestSize = 16 // bytes of SHA-256
	leastUnit  = 64 << 10
	mostUnits  = 4 << 20 // of one volume: 64 MiB of digests
)

// digest is of one unit; the zero value is of zeros.
type digest [digestSize]byte

func digestOf(unit []byte) digest {
	if isZero(unit) {
		return digest{}
	}
	sum := sha256.Sum256(unit)
	return digest(sum[:digestSize])
}

// isZero compares with itself, which the runtime does at the speed of memory.
func isZero(b []byte) bool {
	return len(b) == 0 || b[0] == 0 && bytes.Equal(b[1:], b[:len(b)-1])
}

// digestHead is the first line.
type digestHead struct {
	Format   int       `json:"format"`
	Snapshot string    `json:"snapshot"` // name
	GUID     string    `json:"guid"`
	Order    uint64    `json:"order"`
	Time     time.Time `json:"time"`
	Size     int64     `json:"size"` // of the volume, bytes
	Unit     int64     `json:"unit"` // bytes
}

// unitFor is how many bytes one digest covers.
func unitFor(size int64) int64 {
	unit := int64(leastUnit)
	for unit < lvmstream.DataMax && size/unit > mostUnits {
		unit *= 2
	}
	return unit
}

func (d *Driver) digestFile(s fs.Snapshot) string {
	return filepath.Join(d.state, "digests", s.Dataset.GUID, s.GUID)
}

// digestWriter writes the digests of a snapshot that is being sent.
type digestWriter struct {
	aside *durable.Aside
	w     *bufio.Writer
	file  string
}

func (d *Driver) writeDigests(s fs.Snapshot, size, unit int64) (*digestWriter, error) {
	dir, err := d.stateDir("digests", s.Dataset.GUID)
	if err != nil {
		return nil, err
	}
	aside, err := durable.Begin(dir)
	if err != nil {
		return nil, fmt.Errorf("write digests: %w", err)
	}
	r := &digestWriter{aside: aside, w: bufio.NewWriter(aside), file: d.digestFile(s)}
	head, err := json.Marshal(digestHead{Format: 1, Snapshot: s.Name, GUID: s.GUID, Order: s.Order, Time: s.Time, Size: size, Unit: unit})
	if err == nil {
		_, err = r.w.Write(append(head, '\n'))
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("write digests: %w", err), r.Close())
	}
	return r, nil
}

func (r *digestWriter) add(d digest) error {
	_, err := r.w.Write(d[:])
	return err
}

// commit keeps the digests: the stream is complete.
func (r *digestWriter) commit() error {
	err := r.w.Flush()
	if err == nil {
		err = r.aside.Replace(r.file)
	}
	if err = errors.Join(err, r.aside.Close()); err != nil {
		return fmt.Errorf("write digests: %w", err)
	}
	return nil
}

// Close throws the digests away unless they were committed.
func (r *digestWriter) Close() error {
	if r == nil {
		return nil
	}
	return r.aside.Close()
}

// digests reads the digests of a snapshot.
type digests struct {
	head digestHead
	f    *os.File
	r    *bufio.Reader
	next int64 // offset of the unit that is read next
}

func (d *Driver) openDigests(s fs.Snapshot) (*digests, error) {
	f, err := os.Open(d.digestFile(s))
	if errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("digests of snapshot %s: %w", s.Name, fs.ErrNotFound)
	}
	if err != nil {
		return nil, err
	}
	r := &digests{f: f, r: bufio.NewReader(f)}
	line, err := r.r.ReadBytes('\n')
	if err == nil {
		err = json.Unmarshal(line, &r.head)
	}
	if err == nil && (r.head.Format != 1 || r.head.GUID != s.GUID || r.head.Unit < leastUnit || r.head.Unit > lvmstream.DataMax) {
		err = errors.New("it is of another format or snapshot")
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("read %s: %w", f.Name(), err), f.Close())
	}
	return r, nil
}

// differs tells whether the unit at offset is another than its digest says.
// Offsets only grow, by one unit each time.
func (r *digests) differs(offset int64, unit []byte) (bool, error) {
	if offset != r.next {
		return false, fmt.Errorf("compare with digests: unit at %d after %d", offset, r.next)
	}
	r.next += r.head.Unit
	if offset >= r.head.Size {
		return !isZero(unit), nil
	}
	var was digest
	if _, err := io.ReadFull(r.r, was[:]); err != nil {
		return false, fmt.Errorf("compare with digests: %s is cut off: %w", r.f.Name(), io.ErrUnexpectedEOF)
	}
	// The last unit of a base may be shorter than the same one now.
	if inBase := r.head.Size - offset; inBase < int64(len(unit)) {
		return digestOf(unit[:inBase]) != was || !isZero(unit[inBase:]), nil
	}
	return digestOf(unit) != was, nil
}

func (r *digests) Close() error { return r.f.Close() }

// baseReader compares with the base itself.
type baseReader struct {
	f    io.ReaderAt
	size int64
	buf  []byte
	done func() error
}

func (r *baseReader) differs(offset int64, piece []byte) (bool, error) {
	n := min(int64(len(piece)), max(r.size-offset, 0))
	if n > 0 {
		if _, err := r.f.ReadAt(r.buf[:n], offset); err != nil {
			return false, fmt.Errorf("read the base: %w", err)
		}
	}
	return !bytes.Equal(r.buf[:n], piece[:n]) || !isZero(piece[n:]), nil
}

func (r *baseReader) Close() error { return errors.Join(r.done(), giveBack(r.buf)) }

// remembered are the snapshots of which there are digests.
func (d *Driver) remembered(dataset fs.Dataset) ([]fs.Snapshot, error) {
	if !lvmstream.UUIDForm.MatchString(dataset.GUID) {
		return nil, nil
	}
	entries, err := os.ReadDir(filepath.Join(d.state, "digests", dataset.GUID))
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var found []fs.Snapshot
	for _, e := range entries {
		if !lvmstream.UUIDForm.MatchString(e.Name()) {
			continue
		}
		r, err := d.openDigests(fs.Snapshot{Dataset: dataset, GUID: e.Name()})
		if errors.Is(err, fs.ErrNotFound) {
			continue
		}
		if err != nil {
			return nil, err
		}
		h := r.head
		found = append(found, fs.Snapshot{Dataset: dataset, Name: h.Snapshot, GUID: h.GUID, Order: h.Order, Time: h.Time.UTC()})
		if err := r.Close(); err != nil {
			return nil, err
		}
	}
	return found, nil
}

// forget removes the digests of a snapshot that is gone for good.
func (d *Driver) forget(s fs.Snapshot) error {
	if !lvmstream.UUIDForm.MatchString(s.GUID) || !lvmstream.UUIDForm.MatchString(s.Dataset.GUID) {
		return nil
	}
	err := os.Remove(d.digestFile(s))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return err
}
