package ship

import (
	"context"
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
