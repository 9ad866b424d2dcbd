package ship

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"snapd/internal/point"
)

// PointRecord is a restore point as a repository keeps it.
type PointRecord struct {
	Number      int64 // in the repository; set when read
	ID          point.ID
	Host        string // opaque id
	GroupTag    string // opaque; see Repository.GroupTag. PutPoint sets it
	Time        time.Time
	Consistency point.Consistency
	WindowUS    int64
	HeldUS      int64
	Timings     point.Timings
	Streams     []PointStream

	Secret Secret // what a bucket's reader must not see
	Sealed bool   // Secret is empty, because no identity is there to decrypt it

	Digest Digest // of the point's object; set when read

	previous *Link
	events   *Link // the newest event when it was put, nil if none
	format   int
	size     int64 // bytes of the object
}

// PointStream says which stream carries a dataset of the point.
type PointStream struct {
	Stream      point.ID  `json:"stream"`
	Driver      string    `json:"driver"`
	Origin      string    `json:"origin"`
	GUID        string    `json:"guid"`
	Base        *point.ID `json:"base"`
	SentBytes   int64     `json:"sent_bytes"`
	StoredBytes int64     `json:"stored_bytes"`
	Segments    int       `json:"segments"`
	Digest      Digest    `json:"sha256"` // of the manifest's object

	*StreamPlace // nil in a point of format 1, and where PutPoint shall find it out
}

// StreamPlace is where a stream stands in its chain, so that chains are known
// from points alone. It stands in points since format 2.
type StreamPlace struct {
	BaseGUID   *string `json:"base_guid"` // null for a full stream
	Number     int     `json:"number"`
	Depth      int     `json:"depth"`
	Recipients string  `json:"recipients"` // tag, see Repository.RecipientsTag; "" of a stream of format 1
}

// Ref is what the point says of the stream. Without a place it has no key.
func (s PointStream) Ref() StreamRef {
	ref := StreamRef{ID: s.Stream, Base: deref(s.Base), Origin: s.Origin, GUID: s.GUID, Segments: s.Segments, Digest: s.Digest}
	if p := s.StreamPlace; p != nil {
		ref.BaseGUID, ref.Number, ref.Depth, ref.Recipients = deref(p.BaseGUID), p.Number, p.Depth, p.Recipients
		ref.Key = streamKey(ref)
	}
	return ref
}

func (s StreamRef) place() *StreamPlace {
	return &StreamPlace{BaseGUID: optional(s.BaseGUID), Number: s.Number, Depth: s.Depth, Recipients: s.Recipients}
}

// InPoint is a committed stream as a point names it.
func (s Stream) InPoint(driver string) (PointStream, error) {
	d, err := ParseDigest(s.Digest)
	return PointStream{
		Stream: s.ID, Driver: driver, Origin: s.Origin, GUID: s.GUID, Base: optional(s.Base),
		SentBytes: s.SentBytes, StoredBytes: s.StoredBytes, Segments: s.Segments, Digest: d, StreamPlace: s.place(),
	}, err
}

// InPoint is a verified stream as a point names it: for a point that shares a
// stream which was shipped before.
func (m *Manifest) InPoint() PointStream {
	return PointStream{
		Stream: m.ID, Driver: m.Driver, Origin: m.Origin, GUID: m.GUID, Base: optional(m.Base),
		SentBytes: m.SentBytes, StoredBytes: m.StoredBytes, Segments: m.Segments, Digest: m.Digest, StreamPlace: m.place(),
	}
}

// Secret is what is encrypted: names of everything.
type Secret struct {
	Group      string          `json:"group"`
	Host       string          `json:"host"`
	Datasets   []point.Dataset `json:"datasets"`
	Freeze     string          `json:"freeze,omitempty"`
	Why        string          `json:"why,omitempty"`
	Members    []point.Member  `json:"members,omitempty"`
	Warnings   []string        `json:"warnings,omitempty"`
	Quiesced   []point.Quiet   `json:"quiesced,omitempty"`
	Hooks      []point.Hook    `json:"hooks,omitempty"`
	Containers json.RawMessage `json:"containers,omitempty"` // definitions of the members that were containers
	Properties json.RawMessage `json:"properties,omitempty"` // of the datasets
	Items      []point.Item    `json:"items,omitempty"`
	Changed    []point.Change  `json:"changed,omitempty"`
}

// Link names a numbered record: a point or an event.
type Link struct {
	Number int64  `json:"number"`
	Digest Digest `json:"sha256"` // of the whole object
}

type pointDoc struct {
	header
	Number   int64 `json:"number"`
	Previous *Link `json:"previous"`
	*Ledgered
	Point       point.ID          `json:"point"`
	Host        string            `json:"host"`
	GroupTag    string            `json:"group_tag"`
	Time        time.Time         `json:"time"`
	Consistency point.Consistency `json:"consistency"`
	WindowUS    int64             `json:"window_us"`
	HeldUS      int64             `json:"held_us"`
	Timings     point.Timings     `json:"timings_us"`
	Streams     []PointStream     `json:"streams"`
	Sealed      string            `json:"sealed"` // base64
}

// Ledgered is what a point says since format 2: the newest event that was
// known when it was put, null if none.
type Ledgered struct {
	Events *Link `json:"events"`
}

func (d *pointDoc) check() error {
	if err := parseStored(d.Point); err != nil {
		return err
	}
	if err := checkWord("host", d.Host); err != nil {
		return err
	}
	if err := checkWord("group_tag", d.GroupTag); err != nil {
		return err
	}
	if d.Number < 1 || d.Previous != nil && (d.Previous.Number < 1 || d.Previous.Number >= d.Number) || d.Number > maxNumber {
		return errors.New("its number does not follow that of the point before")
	}
	known := []point.Consistency{point.Separate, point.Crash, point.Frozen, point.Quiesced, point.Stopped}
	if !slices.Contains(known, d.Consistency) {
		return fmt.Errorf("consistency %q is unknown", d.Consistency)
	}
	if (d.Ledgered != nil) != (d.Format >= formatVersion) {
		return errors.New("it names an event, or none, exactly if its format is 2")
	}
	if len(d.Streams) == 0 {
		return errors.New("it has no streams")
	}
	for _, s := range d.Streams {
		if (s.StreamPlace != nil) != (d.Format >= formatVersion) {
			return fmt.Errorf("stream %s: its place in the chain is told exactly if the format is 2", s.Stream)
		}
		if err := s.check(); err != nil {
			return fmt.Errorf("stream %s: %w", s.Stream, err)
		}
	}
	return nil
}

func (s PointStream) check() error {
	ref := s.Ref()
	if s.StreamPlace == nil && s.Base != nil {
		ref.Depth = 1 // format 1 does not name the depth
	}
	if err := ref.check(); err != nil {
		return err
	}
	if p := s.StreamPlace; p != nil {
		if (s.Base == nil) != (p.BaseGUID == nil) {
			return errors.New("base and base_guid must both be null or both be there")
		}
		if p.Recipients != "" {
			if err := checkTag(p.Recipients); err != nil {
				return err
			}
		}
	}
	if s.SentBytes < 1 || s.StoredBytes < 1 || s.Segments < 1 || s.Digest.IsZero() {
		return errors.New("a size, the number of segments or the manifest's digest is missing")
	}
	return checkWord("driver", s.Driver)
}

func (r *Repository) pointDoc(rec PointRecord, number int64, previous, events *Link) (*pointDoc, error) {
	secret, err := json.Marshal(rec.Secret)
	if err != nil {
		return nil, fmt.Errorf("encode its secret part: %w", err)
	}
	sealed, err := sealSecret(secret, r.recipients)
	if err != nil {
		return nil, err
	}
	doc := &pointDoc{
		header: header{Format: formatVersion, Type: typePoint, Repository: r.ID},
		Number: number, Previous: previous, Ledgered: &Ledgered{events}, Point: rec.ID, Host: rec.Host,
		GroupTag: r.GroupTag(rec.Secret.Group), Time: rec.Time.UTC(),
		Consistency: rec.Consistency, WindowUS: rec.WindowUS, HeldUS: rec.HeldUS, Timings: rec.Timings,
		Streams: rec.Streams, Sealed: base64.StdEncoding.EncodeToString(sealed),
	}
	return doc, doc.check()
}

// Problem is something that is wrong.
type Problem struct {
	Object  string      `json:"object"`  // key
	Problem string      `json:"problem"` // what is wrong
	Points  []point.ID  `json:"points"`  // that cannot be restored because of it
	Kind    ProblemKind `json:"-"`

	stream point.ID // whose damage it is, for Verify
}

// ProblemKind says what sort of problem a View or a Prune met.
type ProblemKind string

// The kinds.
const (
	KindDamaged    ProblemKind = ""            // an object does not verify
	KindMissing    ProblemKind = "missing"     // a number that nothing explains
	KindRolledBack ProblemKind = "rolled back" // what was seen before is gone, or is another thing now
	KindOldGaps    ProblemKind = "old gaps"    // version 1 kept no record of removals; Prune resolves it by itself
	KindUnknown    ProblemKind = "unknown key" // no version of the format explains it
	KindChain      ProblemKind = "chain"       // what a kept point builds on is not known down to a full stream
	KindLease      ProblemKind = "lease"       // a lease does not verify
	KindHidden     ProblemKind = "hidden"      // what was deleted without a signed removal, and was read from an earlier version
)

// isDamage tells what is wrong with an object from what keeps us from it.
func isDamage(err error) bool {
	return errors.Is(err, ErrDamaged) || errors.Is(err, ErrSignature) || errors.Is(err, ErrNotFound)
}

// fetchPoint fetches and verifies the point at a number.
func (r *Repository) fetchPoint(ctx context.Context, number int64) (*pointDoc, Digest, int64, error) {
	key := pointKey(number)
	var doc pointDoc
	digest, size, err := r.signedObject(ctx, typePoint, key, &doc)
	if err != nil {
		return nil, Digest{}, 0, err
	}
	err = checkHeader(doc.header, typePoint, r.ID)
	if err == nil {
		err = doc.check()
	}
	if err == nil && doc.Number != number {
		err = fmt.Errorf("it is number %d", doc.Number)
	}
	if err != nil {
		return nil, Digest{}, 0, fmt.Errorf("point %s: %w: %w", key, ErrDamaged, err)
	}
	return &doc, digest, size, nil
}

// record is the point without its secret part.
func (d *pointDoc) record(digest Digest, size int64) PointRecord {
	rec := PointRecord{
		Number: d.Number, ID: d.Point, Host: d.Host, GroupTag: d.GroupTag, Time: d.Time, Consistency: d.Consistency,
		WindowUS: d.WindowUS, HeldUS: d.HeldUS, Timings: d.Timings, Streams: d.Streams, Sealed: true,
		Digest: digest, previous: d.Previous, format: d.Format, size: size,
	}
	if d.Ledgered != nil {
		rec.events = d.Events
	}
	return rec
}

func (r *Repository) openSecret(sealed string, secret *Secret) error {
	stored, err := base64.StdEncoding.DecodeString(sealed)
	if err != nil {
		return fmt.Errorf("its encrypted part: %w: %w", ErrDamaged, err)
	}
	plain, err := unsealSecret(stored, r.identities)
	if err != nil {
		return err
	}
	d := json.NewDecoder(bytes.NewReader(plain))
	d.DisallowUnknownFields()
	if err := d.Decode(secret); err != nil {
		return fmt.Errorf("its encrypted part: %w: %w", ErrDamaged, err)
	}
	return nil
}
