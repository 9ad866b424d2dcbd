package ship

import (
	"context"
	"errors"
	"fmt"
	"time"

	"snapd/internal/advice"
)

// acknowledge counts a segment that is safe and puts it in its place.
func (u *upload) acknowledge(ctx context.Context, n int, row Row, reused bool) error {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.pending[n] = row
	u.progress.Segments++
	u.progress.SentBytes += row.Plain
	u.progress.StoredBytes += row.Stored
	if reused {
		u.reused++
		u.progress.ReusedBytes += row.Stored
	} else {
		u.uploaded++
	}
	for {
		row, ok := u.pending[u.next]
		if !ok {
			break
		}
		// A full list goes out only when one more segment follows, so that
		// the manifest itself always ends with some rows.
		if len(u.rows) == rowsPerPart {
			if err := u.putPart(ctx); err != nil {
				return err
			}
		}
		delete(u.pending, u.next)
		u.rows = append(u.rows, row)
		u.next++
	}
	if u.report != nil {
		u.report(u.progress)
	}
	return nil
}

// putPart moves the rows into an object of their own.
func (u *upload) putPart(ctx context.Context) error {
	sum, err := sumRows(u.rows, len(u.parts)*rowsPerPart, u.repo.SliceBytes, false)
	if err != nil {
		return err
	}
	k := len(u.parts)
	doc := partDoc{
		header: header{Format: formatVersion, Type: typePart, Repository: u.repo.ID},
		Stream: u.ref.ID, Part: k, Rows: u.rows,
	}
	// The key holds the digest of an object that is signed for its key: the
	// signature is for the key without the digest.
	object, err := sign(u.repo.signer, typePart, u.repo.ID, partName(u.ref.ID, k), &doc)
	if err != nil {
		return err
	}
	sum.Digest = digestOf(object)
	if err := u.repo.store.Put(ctx, partKey(u.ref.ID, k, sum.Digest), object, false); err != nil {
		return fmt.Errorf("put part %d of the manifest: %w", k, err)
	}
	u.parts = append(u.parts, sum)
	u.rows = u.rows[:0]
	return nil
}

// commit puts the manifest: from then on the stream exists.
func (u *upload) commit(ctx context.Context) (Stream, error) {
	r := u.repo
	doc := streamDoc{
		header: header{Format: formatVersion, Type: typeStream, Repository: r.ID},
		Stream: u.ref.ID, Point: u.head.Point, Host: u.head.Host, Time: u.ref.ID.Time(),
		Driver: u.head.Driver, StreamFormat: u.head.Format, Origin: u.head.Origin, GUID: u.head.GUID,
		Base: optional(u.ref.Base), BaseGUID: optional(u.baseGUID),
		Number: u.head.Number, Depth: u.head.Depth, Recipients: r.RecipientsTag(), SliceBytes: r.SliceBytes,
		Segments: u.progress.Segments, SentBytes: u.progress.SentBytes, StoredBytes: u.progress.StoredBytes,
		Parts: u.parts, Rows: u.rows,
	}
	if doc.Parts == nil {
		doc.Parts = []partRef{}
	}
	if err := doc.check(); err != nil {
		return Stream{}, fmt.Errorf("commit: %w", err)
	}
	if err := u.checkBaseIsThere(ctx); err != nil {
		return Stream{}, fmt.Errorf("commit: %w", err)
	}
	if err := u.checkAllIsThere(ctx, &doc); err != nil {
		return Stream{}, fmt.Errorf("commit: %w", err)
	}
	object, err := sign(r.signer, typeStream, r.ID, u.ref.Key, &doc)
	if err != nil {
		return Stream{}, fmt.Errorf("commit: %w", err)
	}
	u.record.committing(u.ref.Key)
	if _, err := putOnce(ctx, r.store, u.ref.Key, object); errors.Is(err, ErrExists) {
		return Stream{}, fmt.Errorf("commit: %w: %w", errSpoilt, err)
	} else if err != nil {
		return Stream{}, fmt.Errorf("commit: %w", err)
	}
	ref := doc.ref()
	ref.Digest = digestOf(object)
	ref.Size, ref.Time = int64(len(object)), time.Now().UTC()
	return Stream{
		StreamRef: ref, SentBytes: doc.SentBytes, StoredBytes: doc.StoredBytes, Segments: doc.Segments,
		Uploaded: u.uploaded, Reused: u.reused, Digest: digestOf(object).String(),
	}, nil
}

// errLost says that the store does not have what it acknowledged.
var errLost = errors.New("the store acknowledged it, and does not have it")

// checkAllIsThere compares what was uploaded with what the store has, before
// the manifest says that it is there.
func (u *upload) checkAllIsThere(ctx context.Context, doc *streamDoc) error {
	lacking, err := u.repo.lacks(ctx, doc.manifest(Digest{}, 0, u.ref))
	if err != nil || len(lacking) == 0 {
		return err
	}
	more := ""
	if n := len(lacking); n > 1 {
		more = fmt.Sprintf(" (and %d more like it)", n-1)
	}
	return advice.With(fmt.Errorf("object %s: %s%s: %w", lacking[0].key, lacking[0].why, more, errLost),
		"ship again, and what is missing is uploaded anew; if it is missing again, look for what deletes objects in the store, or do not trust it")
}
