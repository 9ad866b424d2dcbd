package ship

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"snapd/internal/point"
)

const (
	prefixMeta    = "meta/"
	prefixPoints  = "meta/points/"
	prefixLedger  = "meta/ledger/"
	prefixLeases  = "meta/leases/"
	prefixStreams = "meta/streams/"
	prefixData    = "data/"

	full = "full" // stands in a key where an incremental stream has its base
)

// Index is a View in the form of a listing, for callers that are not yet moved
// to it.
type Index struct {
	Points  []PointRef  // ascending by number
	Streams []StreamRef // ascending by id, which is by the time they were begun
	Unknown []string    // keys that no version of the format explains
	View    *View
}

// PointRef is a restore point in a listing.
type PointRef struct {
	Number int64
	Key    string
	Size   int64     // bytes of the point's object
	Time   time.Time // when it was put, by the store's clock
}

// StreamRef says what a stream is. One of a View was signed: by its manifest,
// or by a point or an event that names it.
type StreamRef struct {
	ID         point.ID
	Base       point.ID // the stream it builds on, "" for a full one
	Origin     string   // guid of the dataset
	GUID       string   // guid of the snapshot that the stream makes
	BaseGUID   string   // guid of the snapshot that it builds on, "" for a full one
	Number     int      // of the stream in its dataset's chain, as retention counts them
	Depth      int      // streams below it down to the full one, which has 0
	Recipients string   // tag of those who can open it, see Repository.RecipientsTag; "" of format 1
	Segments   int
	Digest     Digest    // of the manifest's object
	Key        string    // of the manifest
	Size       int64     // bytes of the manifest's object; 0 where it was not listed
	Time       time.Time // when it was committed, by the store's clock; zero where it was not listed
}

// Index looks through the whole repository.
func (r *Repository) Index(ctx context.Context) (*Index, error) {
	v, err := r.View(ctx, nil, Whole)
	if err != nil {
		return nil, err
	}
	return v.Index(), nil
}

// Index is the view in the form of a listing.
func (v *View) Index() *Index {
	x := &Index{View: v, Unknown: v.unknown}
	for _, p := range v.Points {
		x.Points = append(x.Points, PointRef{Number: p.Number, Key: pointKey(p.Number), Size: p.size, Time: p.StoreTime})
	}
	for id, s := range v.streams {
		if _, ill := v.ill[id]; !ill || v.needed[id] {
			x.Streams = append(x.Streams, s)
		}
	}
	slices.SortFunc(x.Streams, func(a, b StreamRef) int { return strings.Compare(string(a.ID), string(b.ID)) })
	return x
}

// Stream finds a stream by its id.
func (x *Index) Stream(id point.ID) (StreamRef, bool) {
	i, ok := slices.BinarySearchFunc(x.Streams, id, func(s StreamRef, id point.ID) int {
		return strings.Compare(string(s.ID), string(id))
	})
	if !ok {
		return StreamRef{}, false
	}
	return x.Streams[i], true
}

// Whole is View.Whole.
func (x *Index) Whole(id point.ID) bool { return x.View.Whole(id) }

// HasPoint is View.HasPoint.
func (x *Index) HasPoint(number int64) bool { return x.View.HasPoint(number) }

// Newest is the highest number of a kept point; 0 when there is none.
func (x *Index) Newest() int64 {
	if n := len(x.Points); n > 0 {
		return x.Points[n-1].Number
	}
	return 0
}

// BySnapshot is View.BySnapshot.
func (x *Index) BySnapshot(origin, guid string) (StreamRef, bool) {
	return x.View.BySnapshot(origin, guid)
}

// Points are those of the view, and its problems.
func (r *Repository) Points(ctx context.Context, index *Index) ([]PointRecord, []Problem, error) {
	if index == nil {
		var err error
		if index, err = r.Index(ctx); err != nil {
			return nil, nil, err
		}
	}
	return index.View.Points, index.View.Problems, nil
}

func pointKey(number int64) string { return fmt.Sprintf("%s%010d", prefixPoints, number) }

func streamKey(s StreamRef) string {
	base := full
	if s.Base != "" {
		base = string(s.Base)
	}
	return fmt.Sprintf("%s%s.%s.%s.%s.%d.%d", prefixStreams, s.ID, s.Origin, s.GUID, base, s.Number, s.Depth)
}

func parseStreamKey(key string) (StreamRef, bool) {
	name, ok := strings.CutPrefix(key, prefixStreams)
	parts := strings.Split(name, ".")
	if !ok || len(parts) != 6 {
		return StreamRef{}, false
	}
	s := StreamRef{ID: point.ID(parts[0]), Origin: parts[1], GUID: parts[2], Key: key}
	if parts[3] != full {
		s.Base = point.ID(parts[3])
	}
	var err1, err2 error
	s.Number, err1 = strconv.Atoi(parts[4])
	s.Depth, err2 = strconv.Atoi(parts[5])
	if err1 != nil || err2 != nil || s.check() != nil || streamKey(s) != key {
		return StreamRef{}, false
	}
	return s, true
}

// maxDepth is far beyond any chain that retention makes; it bounds what a
// reader follows.
const maxDepth = 10_000

func (s StreamRef) check() error {
	if err := parseStored(s.ID); err != nil {
		return fmt.Errorf("stream: %w", err)
	}
	if s.Base != "" {
		if err := parseStored(s.Base); err != nil {
			return fmt.Errorf("base: %w", err)
		}
	}
	if err := checkWord("the dataset's guid", s.Origin); err != nil {
		return err
	}
	if err := checkWord("the snapshot's guid", s.GUID); err != nil {
		return err
	}
	if s.Number < 0 || s.Depth < 0 || s.Depth > maxDepth {
		return fmt.Errorf("number %d or depth %d is out of range", s.Number, s.Depth)
	}
	if (s.Base == "") != (s.Depth == 0) {
		return fmt.Errorf("a stream has depth 0 exactly if it is full; this has depth %d and base %q", s.Depth, s.Base)
	}
	return nil
}

func dataPrefix(stream point.ID) string { return prefixData + string(stream) + "/" }

func segmentKey(stream point.ID, n int, d Digest) string {
	return fmt.Sprintf("%s%08d-%s", dataPrefix(stream), n, d.String()[:16])
}

// partName is what a part of a manifest is signed for.
func partName(stream point.ID, k int) string {
	return fmt.Sprintf("%spart-%05d", dataPrefix(stream), k)
}

func partKey(stream point.ID, k int, d Digest) string {
	return partName(stream, k) + "-" + d.String()[:16]
}
