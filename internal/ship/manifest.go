package ship

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"snapd/internal/point"
)

// rowsPerPart is how many segments one part of a long manifest lists. With
// slices of 16 MiB a part stands for 256 GiB.
const rowsPerPart = 16384

// Row is one segment of a stream: a line of its manifest.
type Row struct {
	Digest Digest // of the object as stored
	Plain  int64  // bytes of the stream that it holds
	Stored int64  // bytes of the object
}

// MarshalJSON writes ["digest",plain,stored].
func (r Row) MarshalJSON() ([]byte, error) {
	return fmt.Appendf(nil, `["%s",%d,%d]`, r.Digest, r.Plain, r.Stored), nil
}

// UnmarshalJSON reads what MarshalJSON wrote.
func (r *Row) UnmarshalJSON(b []byte) error {
	var raw []json.RawMessage
	if err := json.Unmarshal(b, &raw); err != nil {
		return err
	}
	if len(raw) != 3 {
		return fmt.Errorf("a segment has 3 values, not %d", len(raw))
	}
	return errors.Join(
		json.Unmarshal(raw[0], &r.Digest),
		json.Unmarshal(raw[1], &r.Plain),
		json.Unmarshal(raw[2], &r.Stored))
}

// partRef stands in a manifest for a part of it that is an object of its own.
type partRef struct {
	Digest      Digest `json:"sha256"`
	Segments    int    `json:"segments"`
	SentBytes   int64  `json:"sent_bytes"`
	StoredBytes int64  `json:"stored_bytes"`
}

type partDoc struct {
	header
	Stream point.ID `json:"stream"`
	Part   int      `json:"part"`
	Rows   []Row    `json:"rows"`
}

type streamDoc struct {
	header
	Stream       point.ID  `json:"stream"`
	Point        point.ID  `json:"point"`
	Host         string    `json:"host"`
	Time         time.Time `json:"time"`
	Driver       string    `json:"driver"`
	StreamFormat string    `json:"stream_format"`
	Origin       string    `json:"origin"`
	GUID         string    `json:"guid"`
	Base         *point.ID `json:"base"`
	BaseGUID     *string   `json:"base_guid"`
	Number       int       `json:"number"`
	Depth        int       `json:"depth"`
	Recipients   string    `json:"recipients,omitempty"` // since format 2
	SliceBytes   int       `json:"slice_bytes"`
	Segments     int       `json:"segments"`
	SentBytes    int64     `json:"sent_bytes"`
	StoredBytes  int64     `json:"stored_bytes"`
	Parts        []partRef `json:"parts"`
	Rows         []Row     `json:"rows"`
}

// Manifest is a verified list of a stream's segments.
type Manifest struct {
	StreamRef
	Point       point.ID
	Host        string // opaque
	Began       time.Time
	Driver      string
	Format      string // of the stream, such as "btrfs-2"
	SliceBytes  int
	SentBytes   int64
	StoredBytes int64

	parts []partRef
	rows  []Row // those after the parts
}

func optional[T ~string](s T) *T {
	if s == "" {
		return nil
	}
	return &s
}

func deref[T ~string](p *T) T {
	if p == nil {
		return ""
	}
	return *p
}

func (d *streamDoc) ref() StreamRef {
	s := StreamRef{
		ID: d.Stream, Base: deref(d.Base), Origin: d.Origin, GUID: d.GUID, BaseGUID: deref(d.BaseGUID),
		Number: d.Number, Depth: d.Depth, Recipients: d.Recipients, Segments: d.Segments,
	}
	s.Key = streamKey(s)
	return s
}

// check looks for contradictions, so that no user of a manifest has to.
func (d *streamDoc) check() error {
	if err := d.checkNames(); err != nil {
		return err
	}
	return d.checkSums()
}

// checkNames looks at all but the segments.
func (d *streamDoc) checkNames() error {
	ref := d.ref()
	if err := ref.check(); err != nil {
		return err
	}
	if err := parseStored(d.Point); err != nil {
		return fmt.Errorf("point: %w", err)
	}
	for _, w := range []struct{ what, word string }{
		{"host", d.Host}, {"driver", d.Driver}, {"stream format", d.StreamFormat},
	} {
		if err := checkWord(w.what, w.word); err != nil {
			return err
		}
	}
	if (d.Base == nil) != (d.BaseGUID == nil) {
		return errors.New("base and base_guid must both be null or both be there")
	}
	if d.BaseGUID != nil {
		if err := checkWord("the base's guid", *d.BaseGUID); err != nil {
			return err
		}
	}
	if (d.Recipients != "") != (d.Format >= formatVersion) {
		return errors.New("it says to whom it is encrypted exactly if its format is 2")
	}
	if d.Recipients != "" {
		return checkTag(d.Recipients)
	}
	return nil
}

// checkSums looks whether the segments are as the slices make them, and their
// sums as they are told.
func (d *streamDoc) checkSums() error {
	if d.SliceBytes < 1 || d.SliceBytes > maxSlice {
		return fmt.Errorf("slices of %d bytes are out of range", d.SliceBytes)
	}
	sum := partRef{}
	for i, p := range d.Parts {
		if p.Segments != rowsPerPart || p.SentBytes != fullBytes(i*rowsPerPart, rowsPerPart, d.SliceBytes) || p.StoredBytes < 0 {
			return fmt.Errorf("part %d is not full", i)
		}
		sum.add(p)
	}
	if len(d.Rows) > rowsPerPart || len(d.Rows) == 0 {
		return fmt.Errorf("%d rows after the parts", len(d.Rows))
	}
	tail, err := sumRows(d.Rows, len(d.Parts)*rowsPerPart, d.SliceBytes, true)
	if err != nil {
		return err
	}
	sum.add(tail)
	if sum.Segments != d.Segments || sum.SentBytes != d.SentBytes || sum.StoredBytes != d.StoredBytes {
		return errors.New("the sums do not fit the segments")
	}
	return nil
}

func (p *partRef) add(q partRef) {
	p.Segments += q.Segments
	p.SentBytes += q.SentBytes
	p.StoredBytes += q.StoredBytes
}

// sliceAt is how many bytes segment n of a stream holds, if it is not the last:
// the first slices are small, so that a short stream keeps all processors and
// the store busy from its first MiB on.
func sliceAt(n, most int) int {
	return min(most, firstSlice<<min(n/slicesOfASize, 16))
}

const (
	firstSlice    = 1 << 20 // bytes
	slicesOfASize = 4       // then they double, until they are as large as the repository says
)

// fullBytes is what count full segments from the first-th on hold.
func fullBytes(first, count, most int) int64 {
	sum := int64(0)
	for n := first; n < first+count; n++ {
		sum += int64(sliceAt(n, most))
	}
	return sum
}

// sumRows adds up rows that start with segment first. All slices are full but
// the last one of the stream.
func sumRows(rows []Row, first, most int, last bool) (partRef, error) {
	sum := partRef{Segments: len(rows)}
	for i, r := range rows {
		slice := sliceAt(first+i, most)
		short := last && i == len(rows)-1
		if r.Plain < 1 || r.Plain > int64(slice) || r.Plain != int64(slice) && !short {
			return sum, fmt.Errorf("segment %d holds %d bytes, a slice has %d", i, r.Plain, slice)
		}
		if r.Stored < 1 || r.Stored > maxStored(slice) {
			return sum, fmt.Errorf("segment %d has %d bytes stored, too many or none", i, r.Stored)
		}
		sum.SentBytes += r.Plain
		sum.StoredBytes += r.Stored
	}
	return sum, nil
}

// maxStored bounds an object made from a slice: incompressible data, and a
// header for some hundred recipients.
func maxStored(slice int) int64 { return int64(slice) + int64(slice)>>8 + 1<<20 }

func (d *streamDoc) manifest(digest Digest, size int64, listed StreamRef) *Manifest {
	m := &Manifest{
		StreamRef: d.ref(), Point: d.Point, Host: d.Host, Began: d.Time, Driver: d.Driver, Format: d.StreamFormat,
		SliceBytes: d.SliceBytes, SentBytes: d.SentBytes, StoredBytes: d.StoredBytes, parts: d.Parts, rows: d.Rows,
	}
	m.Digest, m.Size, m.Time = digest, size, listed.Time
	return m
}

// Manifest fetches and verifies the manifest of a stream in the index.
func (r *Repository) Manifest(ctx context.Context, ref StreamRef) (*Manifest, error) {
	doc, digest, size, err := r.fetchManifest(ctx, ref)
	if err != nil {
		return nil, err
	}
	return doc.manifest(digest, size, ref), nil
}

func (r *Repository) fetchManifest(ctx context.Context, ref StreamRef) (*streamDoc, Digest, int64, error) {
	var doc streamDoc
	digest, size, err := r.signedObject(ctx, typeStream, ref.Key, &doc)
	if err != nil {
		return nil, Digest{}, 0, err
	}
	err = checkHeader(doc.header, typeStream, r.ID)
	if err == nil {
		err = doc.check()
	}
	if err == nil && doc.ref().Key != ref.Key {
		err = errors.New("it does not belong at this key")
	}
	if err != nil {
		return nil, Digest{}, 0, fmt.Errorf("manifest %s: %w: %w", ref.Key, ErrDamaged, err)
	}
	return &doc, digest, size, nil
}

// segment is a row with its place.
type segment struct {
	Row
	n   int
	key string
}

// eachSegment calls f for every segment in order. It fetches one part of the
// manifest at a time, so that memory stays the same for any stream.
func (r *Repository) eachSegment(ctx context.Context, m *Manifest, f func(segment) error) error {
	n := 0
	all := func(rows []Row) error {
		for _, row := range rows {
			if err := f(segment{Row: row, n: n, key: segmentKey(m.ID, n, row.Digest)}); err != nil {
				return err
			}
			n++
		}
		return nil
	}
	for k, p := range m.parts {
		rows, _, err := r.part(ctx, m, k, p)
		if err != nil {
			return err
		}
		if err := all(rows); err != nil {
			return err
		}
	}
	return all(m.rows)
}

func (r *Repository) part(ctx context.Context, m *Manifest, k int, p partRef) (rows []Row, size int64, err error) {
	key := partKey(m.ID, k, p.Digest)
	var doc partDoc
	digest, size, err := r.signedObjectAs(ctx, typePart, key, partName(m.ID, k), &doc)
	if err != nil {
		return nil, 0, fmt.Errorf("part %s of the manifest: %w", key, err)
	}
	if digest != p.Digest || checkHeader(doc.header, typePart, r.ID) != nil || doc.Stream != m.ID || doc.Part != k {
		return nil, 0, fmt.Errorf("object %s: %w: it is not the part that the manifest names", key, ErrDamaged)
	}
	sum, err := sumRows(doc.Rows, k*rowsPerPart, m.SliceBytes, false)
	sum.Digest = p.Digest
	if err != nil || sum != p {
		return nil, 0, fmt.Errorf("object %s: %w: its sums are not those of the manifest", key, ErrDamaged)
	}
	return doc.Rows, size, nil
}
