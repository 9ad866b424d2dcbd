package ship

import (
	"context"
	"fmt"
	"time"

	"snapd/internal/point"
)

// PutLeaseForTest puts a lease as an upload does.
func PutLeaseForTest(ctx context.Context, r *Repository, stream, base point.ID, count int) error {
	doc := leaseDoc{
		header: header{Format: formatVersion, Type: typeLease, Repository: r.ID},
		Stream: stream, Base: optional(base), Host: r.host, Time: time.Now().UTC(), Count: count,
	}
	key := leaseKey(stream, count)
	object, err := sign(r.signer, typeLease, r.ID, key, &doc)
	if err != nil {
		return err
	}
	return r.store.Put(ctx, key, object, true)
}

// FillForTest makes many points with a stream each, without their data: a full
// stream and then increments on it, by turns.
func FillForTest(ctx context.Context, r *Repository, points, segments, perFull int) error {
	rows := make([]Row, segments)
	for i := range rows {
		rows[i] = Row{Digest: digestOf([]byte{byte(i)}), Plain: int64(sliceAt(i, r.SliceBytes)), Stored: 100}
	}
	sum, err := sumRows(rows, 0, r.SliceBytes, true)
	if err != nil {
		return err
	}
	var previous *Link
	var base StreamRef
	for n := range points {
		doc := streamDoc{
			header: header{Format: formatVersion, Type: typeStream, Repository: r.ID}, Stream: point.NewID(time.Now()), Point: point.NewID(time.Now()),
			Host: "host-1", Time: time.Now().UTC(), Driver: "btrfs", StreamFormat: "btrfs-2", Origin: "origin-1", GUID: fmt.Sprintf("g-%d", n),
			Number: n, Recipients: r.RecipientsTag(), SliceBytes: r.SliceBytes, Parts: []partRef{}, Rows: rows,
			Segments: sum.Segments, SentBytes: sum.SentBytes, StoredBytes: sum.StoredBytes,
		}
		if n%perFull != 0 {
			doc.Base, doc.BaseGUID, doc.Depth = optional(base.ID), optional(base.GUID), 1
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
		if n%perFull == 0 {
			base = ref
		}
		ps := PointStream{
			Stream: ref.ID, Driver: doc.Driver, Origin: ref.Origin, GUID: ref.GUID, Base: doc.Base, SentBytes: doc.SentBytes,
			StoredBytes: doc.StoredBytes, Segments: doc.Segments, Digest: ref.Digest, StreamPlace: ref.place(),
		}
		rec := PointRecord{ID: doc.Point, Host: "host-1", Time: time.Now(), Consistency: point.Crash, Streams: []PointStream{ps}}
		p, err := r.pointDoc(rec, int64(n+1), previous, nil)
		if err != nil {
			return err
		}
		if object, err = sign(r.signer, typePoint, r.ID, pointKey(p.Number), p); err != nil {
			return err
		}
		if err := r.store.Put(ctx, pointKey(p.Number), object, true); err != nil {
			return err
		}
		previous = &Link{Number: p.Number, Digest: digestOf(object)}
	}
	return nil
}
