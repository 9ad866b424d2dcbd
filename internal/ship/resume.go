package ship

import (
	"context"
	"fmt"
	"strconv"
	"strings"
)

type found struct {
	size   int64
	suffix string // of the key
}

// resume finds out what of an earlier attempt is still there.
func (u *upload) resume(ctx context.Context) (how func(*upload) string, committed *Stream, err error) {
	how = func(*upload) string { return "" }
	if !u.record.resumed() {
		return how, nil, nil
	}
	// The earlier attempt may have died after its commit.
	var listed *StreamRef
	err = u.repo.store.List(ctx, prefixStreams+string(u.ref.ID)+".", func(o Object) error {
		if ref, ok := parseStreamKey(o.Key); ok {
			ref.Size, ref.Time = o.Size, o.Time
			listed = &ref
		}
		return nil
	})
	if err != nil {
		return nil, nil, fmt.Errorf("look for an earlier attempt: %w", err)
	}
	if listed != nil {
		m, err := u.repo.Manifest(ctx, *listed)
		if err != nil {
			return nil, nil, fmt.Errorf("an earlier attempt was committed: %w", err)
		}
		return nil, &Stream{
			StreamRef: m.StreamRef, SentBytes: m.SentBytes, StoredBytes: m.StoredBytes, Segments: m.Segments,
			Reused: m.Segments, Resumed: "it was complete already", Digest: m.Digest.String(),
		}, nil
	}
	there := map[int]found{}
	prefix := dataPrefix(u.ref.ID)
	err = u.repo.store.List(ctx, prefix, func(o Object) error {
		number, suffix, ok := strings.Cut(strings.TrimPrefix(o.Key, prefix), "-")
		n, err := strconv.Atoi(number)
		if !ok || err != nil || n >= len(u.record.done) {
			return nil //nolint:nilerr // not a segment that was recorded
		}
		// A slice that changed between attempts lies there twice: only the
		// one that the record names counts.
		if u.record.done[n].object.String()[:16] == suffix {
			there[n] = found{size: o.Size, suffix: suffix}
		}
		return nil
	})
	if err != nil {
		return nil, nil, fmt.Errorf("look for what an earlier attempt uploaded: %w", err)
	}
	u.record.confirm(there)
	return (*upload).how, nil, nil
}
