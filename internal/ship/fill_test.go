package ship

import (
	"context"
	"encoding/binary"
	"fmt"
	"time"

	"snapd/internal/point"

	"golang.org/x/sync/errgroup"
)

// Fill says what FillForTest makes.
type Fill struct {
	Points   int
	Segments int // of each point's stream
	PerFull  int // a full stream and then increments on it, by turns
	Data     bool
	Group    string            // of the points
	Host     string            // opaque id; "host-1" if ""
	After    PointRecord       // the newest point there; zero if none
	Begin    time.Time         // of the first point, each an hour after the one before; now if zero
	Each     func(PointRecord) // told of each, if set
}

// filler is one running FillForTest.
type filler struct {
	Fill
	repo     *Repository
	previous *Link
	base     StreamRef
}

// FillForTest makes many points with a stream each, as uploads of one dataset
// would. With Data they have their segments, of a few bytes that nothing can
// decrypt.
func FillForTest(ctx context.Context, r *Repository, o Fill) error {
	f := &filler{Fill: o, repo: r}
	if f.Host == "" {
		f.Host = "host-1"
	}
	if o.After.Number > 0 {
		f.previous = &Link{Number: o.After.Number, Digest: o.After.Digest}
	}
	if o.Begin.IsZero() {
		f.Begin = time.Now()
	}
	for n := range o.Points {
		if err := f.point(ctx, n); err != nil {
			return err
		}
	}
	return nil
}

func (f *filler) point(ctx context.Context, n int) error {
	r := f.repo
	at := f.Begin.Add(time.Duration(n) * time.Hour)
	doc := streamDoc{
		header: header{Format: formatVersion, Type: typeStream, Repository: r.ID}, Stream: point.NewID(at), Point: point.NewID(at),
		Host: f.Host, Time: at.UTC(), Driver: "btrfs", StreamFormat: "btrfs-2", Origin: "origin-1", GUID: fmt.Sprintf("g-%d-%d", f.After.Number, n),
		Number: n, Recipients: r.RecipientsTag(), SliceBytes: r.SliceBytes, Parts: []partRef{},
	}
	if n%f.PerFull != 0 {
		doc.Base, doc.BaseGUID, doc.Depth = optional(f.base.ID), optional(f.base.GUID), 1
	}
	if err := f.segments(ctx, &doc); err != nil {
		return err
	}
	ref := doc.ref()
	object, err := sign(r.signer, typeStream, r.ID, ref.Key, &doc)
	if err != nil {
		return err
	}
	if err := r.store.Put(ctx, ref.Key, object, true); err != nil {
		return err
	}
	ref.Digest = digestOf(object)
	if n%f.PerFull == 0 {
		f.base = ref
	}
	ps := PointStream{
		Stream: ref.ID, Driver: doc.Driver, Origin: ref.Origin, GUID: ref.GUID, Base: doc.Base, SentBytes: doc.SentBytes,
		StoredBytes: doc.StoredBytes, Segments: doc.Segments, Digest: ref.Digest, StreamPlace: ref.place(),
	}
	rec := PointRecord{
		ID: doc.Point, Host: f.Host, Time: at, Consistency: point.Crash, Streams: []PointStream{ps},
		Secret: Secret{Group: f.Group, Host: "bench", Datasets: []point.Dataset{{Driver: "btrfs", Dataset: "/srv/data", GUID: ref.GUID, Origin: ref.Origin}}},
	}
	number := int64(1)
	if f.previous != nil {
		number = f.previous.Number + 1
	}
	p, err := r.pointDoc(rec, number, f.previous, nil)
	if err != nil {
		return err
	}
	if object, err = sign(r.signer, typePoint, r.ID, pointKey(p.Number), p); err != nil {
		return err
	}
	if err := r.store.Put(ctx, pointKey(p.Number), object, true); err != nil {
		return err
	}
	f.previous = &Link{Number: p.Number, Digest: digestOf(object)}
	if rec.Number = p.Number; f.Each != nil {
		f.Each(rec)
	}
	return nil
}

// segments fills in the rows of a stream, and puts what they name.
func (f *filler) segments(ctx context.Context, doc *streamDoc) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(8)
	for i := range f.Segments {
		body := make([]byte, 100)
		copy(body, doc.Stream)
		binary.BigEndian.PutUint32(body[50:], uint32(i))
		row := Row{Digest: digestOf(body), Plain: int64(sliceAt(i, f.repo.SliceBytes)), Stored: int64(len(body))}
		doc.Rows = append(doc.Rows, row)
		if f.Data {
			g.Go(func() error {
				_, err := putDigest(ctx, f.repo.store, segmentKey(doc.Stream, i, row.Digest), body, false, row.Digest)
				return err
			})
		}
	}
	sum, err := sumRows(doc.Rows, 0, f.repo.SliceBytes, true)
	if err != nil {
		return err
	}
	doc.Segments, doc.SentBytes, doc.StoredBytes = sum.Segments, sum.SentBytes, sum.StoredBytes
	return g.Wait()
}
