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

	"snapd/internal/advice"
	"snapd/internal/point"

	"golang.org/x/sync/errgroup"
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
	Sealed bool   // Secret is empty, because no identity is there to open it

	StoreTime time.Time // when the point was put, by the store's clock; set when read
	Digest    Digest    // of the point's object; set when read

	previous *Link
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

// Secret is what is sealed: names of everything.
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
}

// Link names a numbered record: a point or an event.
type Link struct {
	Number int64  `json:"number"`
	Digest Digest `json:"sha256"` // of the whole object
}

type pointDoc struct {
	header
	Number      int64             `json:"number"`
	Previous    *Link             `json:"previous"`
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
	if d.Number < 1 || d.Previous != nil && (d.Previous.Number < 1 || d.Previous.Number >= d.Number) {
		return errors.New("its number does not follow that of the point before")
	}
	known := []point.Consistency{point.Separate, point.Crash, point.Frozen, point.Quiesced, point.Stopped}
	if !slices.Contains(known, d.Consistency) {
		return fmt.Errorf("consistency %q is unknown", d.Consistency)
	}
	if len(d.Streams) == 0 {
		return errors.New("it has no streams")
	}
	for _, s := range d.Streams {
		if err := s.check(); err != nil {
			return fmt.Errorf("stream %s: %w", s.Stream, err)
		}
	}
	return nil
}

func (s PointStream) check() error {
	ref := StreamRef{ID: s.Stream, Origin: s.Origin, GUID: s.GUID, Base: deref(s.Base)}
	if s.Base != nil {
		ref.Depth = 1 // a point does not name the depth
	}
	if err := ref.check(); err != nil {
		return err
	}
	if s.SentBytes < 1 || s.StoredBytes < 1 || s.Segments < 1 || s.Digest.IsZero() {
		return errors.New("a size, the number of segments or the manifest's digest is missing")
	}
	return checkWord("driver", s.Driver)
}

// PutPoint adds a restore point whose streams are committed. view may be nil;
// it is brought up to date. When it returns nil, the point exists. ErrConflict
// when another host writes here.
func (r *Repository) PutPoint(ctx context.Context, rec PointRecord, _ *View) (number int64, err error) {
	if err := r.checkWritable(); err != nil {
		return 0, err
	}
	index, err := r.Index(ctx)
	if err != nil {
		return 0, err
	}
	r.numbering.Lock()
	defer r.numbering.Unlock()
	previous, same, err := r.previous(ctx, rec.ID, index)
	if err != nil {
		return 0, fmt.Errorf("put point %s: %w", rec.ID, err)
	}
	if same {
		return previous.Number, nil // put before, and the answer or we were lost
	}
	doc, err := r.pointDoc(rec, max(index.highest(), r.newest.Number)+1, previous)
	if err != nil {
		return 0, fmt.Errorf("put point %s: %w", rec.ID, err)
	}
	key := pointKey(doc.Number)
	object, err := sign(r.signer, typePoint, r.ID, key, doc)
	if err != nil {
		return 0, fmt.Errorf("put point %s: %w", rec.ID, err)
	}
	if there, err := putOnce(ctx, r.store, key, object); errors.Is(err, ErrExists) && there != nil {
		return 0, advice.With(fmt.Errorf("put point %s: number %d is taken: %w", rec.ID, doc.Number, ErrConflict),
			"if this machine is a clone, give it a prefix and a signing key of its own, then run: snapd init; if nothing else writes here, try again")
	} else if err != nil {
		return 0, fmt.Errorf("put point %s: %w", rec.ID, err)
	}
	r.newest = Link{Number: doc.Number, Digest: digestOf(object)}
	return doc.Number, nil
}

func (r *Repository) pointDoc(rec PointRecord, number int64, previous *Link) (*pointDoc, error) {
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
		Number: number, Previous: previous, Point: rec.ID, Host: rec.Host,
		GroupTag: r.GroupTag(rec.Secret.Group), Time: rec.Time.UTC(),
		Consistency: rec.Consistency, WindowUS: rec.WindowUS, HeldUS: rec.HeldUS, Timings: rec.Timings,
		Streams: rec.Streams, Sealed: base64.StdEncoding.EncodeToString(sealed),
	}
	return doc, doc.check()
}

// previous finds the point that the next one names as the one before it. A
// damaged one is passed over, and is for verify to report: it must not keep
// new points from being made. same tells that it is the very point id.
func (r *Repository) previous(ctx context.Context, id point.ID, index *Index) (link *Link, same bool, err error) {
	if r.newest.Number > index.highest() {
		return new(r.newest), false, nil
	}
	for _, ref := range slices.Backward(index.Points) {
		var doc pointDoc
		digest, err := r.signedObject(ctx, typePoint, ref.Key, &doc)
		switch {
		case errors.Is(err, ErrDamaged), errors.Is(err, ErrSignature), errors.Is(err, ErrNotFound):
			continue
		case err != nil:
			return nil, false, err
		}
		return &Link{Number: ref.Number, Digest: digest}, doc.Point == id, nil
	}
	return nil, false, nil
}

// pointFetches is how many points are fetched at once.
const pointFetches = 8

// Problem is damage that was found.
type Problem struct {
	Object  string     `json:"object"`  // key
	Problem string     `json:"problem"` // what is wrong
	Points  []point.ID `json:"points"`  // that cannot be restored because of it
}

// Points fetches and verifies all points of the index, ascending by number,
// and opens their secret parts where an identity is there. A damaged one is
// among the problems and does not stop the others. A point that was put twice
// (a crash can do that) appears once.
func (r *Repository) Points(ctx context.Context, index *Index) ([]PointRecord, []Problem, error) {
	if index == nil {
		var err error
		if index, err = r.Index(ctx); err != nil {
			return nil, nil, err
		}
	}
	all := make([]*PointRecord, len(index.Points))
	bad := make([]error, len(index.Points))
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(pointFetches)
	for i, ref := range index.Points {
		g.Go(func() error {
			rec, err := r.point(gctx, ref, r.canUnseal())
			if isDamage(err) {
				bad[i] = err
				return nil
			}
			all[i] = rec
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return nil, nil, fmt.Errorf("read the points: %w", err)
	}
	seen := map[point.ID]bool{}
	var points []PointRecord
	var problems []Problem
	for i, rec := range all {
		switch {
		case bad[i] != nil:
			problems = append(problems, Problem{Object: index.Points[i].Key, Problem: bad[i].Error(), Points: []point.ID{}})
		case !seen[rec.ID]:
			seen[rec.ID] = true
			points = append(points, *rec)
		}
	}
	return points, problems, nil
}

// isDamage tells what is wrong with an object from what keeps us from it.
func isDamage(err error) bool {
	return errors.Is(err, ErrDamaged) || errors.Is(err, ErrSignature) || errors.Is(err, ErrNotFound)
}

func (r *Repository) point(ctx context.Context, ref PointRef, unseal bool) (*PointRecord, error) {
	var doc pointDoc
	digest, err := r.signedObject(ctx, typePoint, ref.Key, &doc)
	if err != nil {
		return nil, err
	}
	err = checkHeader(doc.header, typePoint, r.ID)
	if err == nil {
		err = doc.check()
	}
	if err == nil && doc.Number != ref.Number {
		err = fmt.Errorf("it is number %d", doc.Number)
	}
	if err != nil {
		return nil, fmt.Errorf("point %s: %w: %w", ref.Key, ErrDamaged, err)
	}
	rec := &PointRecord{
		Number: doc.Number, ID: doc.Point, Host: doc.Host, GroupTag: doc.GroupTag, Time: doc.Time, Consistency: doc.Consistency,
		WindowUS: doc.WindowUS, HeldUS: doc.HeldUS, Timings: doc.Timings, Streams: doc.Streams,
		StoreTime: ref.Time, Digest: digest, previous: doc.Previous,
	}
	if !unseal {
		rec.Sealed = true
		return rec, nil
	}
	err = r.openSecret(doc.Sealed, &rec.Secret)
	if errors.Is(err, ErrNoIdentity) {
		rec.Sealed, rec.Secret = true, Secret{} // sealed to others: all else can be read
		return rec, nil
	}
	if err != nil {
		return nil, fmt.Errorf("point %s: %w", ref.Key, err)
	}
	return rec, nil
}

func (r *Repository) openSecret(sealed string, secret *Secret) error {
	stored, err := base64.StdEncoding.DecodeString(sealed)
	if err != nil {
		return fmt.Errorf("its sealed part: %w: %w", ErrDamaged, err)
	}
	plain, err := unsealSecret(stored, r.identities)
	if err != nil {
		return err
	}
	d := json.NewDecoder(bytes.NewReader(plain))
	d.DisallowUnknownFields()
	if err := d.Decode(secret); err != nil {
		return fmt.Errorf("its sealed part: %w: %w", ErrDamaged, err)
	}
	return nil
}
