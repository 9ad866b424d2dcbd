package ship_test

import (
	"bytes"
	"context"
	"io"
	"testing"
	"testing/synctest"
	"time"

	"snapd/internal/point"
	"snapd/internal/ship"
)

// slow is a stream that takes a day between two slices, and does something in
// its middle.
type slow struct {
	rest   []byte
	middle int // so much is left
	do     func()
}

func (s *slow) Read(p []byte) (int, error) {
	if len(s.rest) == 0 {
		return 0, io.EOF
	}
	time.Sleep(26 * time.Hour)
	if len(s.rest) <= s.middle && s.do != nil {
		s.do()
		s.do = nil
	}
	n := copy(p[:min(len(p), slice)], s.rest)
	s.rest = s.rest[n:]
	return n, nil
}

// TestPruneOnAnotherHostDuringALongUpload: another host, which has no record of
// the upload, drops the point whose stream is its base, and looks through
// data/. It once deleted 4 of 6 segments, and the point was committed damaged.
func TestPruneOnAnotherHostDuringALongUpload(t *testing.T) {
	data := noise(9, 6*slice)
	synctest.Test(t, func(t *testing.T) {
		b, store, points, streams := aged(t)
		var pruned ship.Pruned
		prune := func() {
			var err error
			pruned, err = b.host().Prune(t.Context(), nil, points[1:2], ship.PruneOptions{Now: time.Now().Add(365 * 24 * time.Hour), Orphans: true})
			if err != nil {
				t.Error(err)
			}
		}
		open := func(context.Context) (io.ReadCloser, error) {
			return io.NopCloser(&slow{rest: data, middle: 2 * slice, do: prune}), nil
		}
		w := b.host()
		s, err := w.Upload(t.Context(), on(streams[1], "g9"), open, b.records, nil)
		if err != nil {
			t.Fatal(err)
		}
		if len(pruned.Points) != 1 || len(pruned.Streams) != 0 {
			t.Errorf("pruned %+v, want the point gone and every stream kept", pruned)
		}
		if got := len(store.Keys("data/" + string(s.ID) + "/")); got != 6 || s.Uploaded != 6 {
			t.Errorf("%d of 6 segments left: %+v", got, s)
		}
		id := b.point(w, s)
		b.told(w, s)
		verifyClean(t, b)
		if got, err := b.read(b.reader(), s.ID); err != nil || !bytes.Equal(got, data) {
			t.Errorf("read back: %d bytes, %v", len(got), err)
		}
		// With its lease gone, the point keeps all that it needs.
		if got, err := b.host().Prune(t.Context(), nil, []point.ID{points[0], points[2], points[3]}, ship.PruneOptions{Now: time.Now(), Orphans: true, Told: true}); err != nil || len(got.Points) != 3 {
			t.Errorf("pruned %+v, %v", got, err)
		}
		verifyClean(t, b)
		if view, err := b.host().View(t.Context(), nil, ship.Whole); err != nil || len(view.Points) != 1 || view.Points[0].ID != id {
			t.Errorf("left: %+v, %v", view, err)
		}
	})
}
