package ship

import (
	"cmp"
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

// Index is what one listing tells: enough to plan an increment. Keys are not
// signed; before something is used, its object is fetched and verified.
type Index struct {
	Points  []PointRef  // ascending by number
	Streams []StreamRef // ascending by id, which is by the time they were begun
	Unknown []string    // keys that no version of the format explains
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

// Index lists what the repository holds.
func (r *Repository) Index(ctx context.Context) (*Index, error) {
	x := &Index{}
	err := r.store.List(ctx, prefixMeta, func(o Object) error {
		if p, ok := parsePointKey(o.Key); ok {
			p.Size, p.Time = o.Size, o.Time
			x.Points = append(x.Points, p)
		} else if s, ok := parseStreamKey(o.Key); ok {
			s.Size, s.Time = o.Size, o.Time
			x.Streams = append(x.Streams, s)
		} else if !isKnownKey(o.Key) {
			x.Unknown = append(x.Unknown, o.Key)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("list the repository: %w", err)
	}
	// What follows relies on the order, and not every server keeps it.
	slices.SortFunc(x.Points, func(a, b PointRef) int { return cmp.Compare(a.Number, b.Number) })
	slices.SortStableFunc(x.Streams, func(a, b StreamRef) int { return cmp.Compare(a.Key, b.Key) })
	return x, nil
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

// Whole tells whether a stream and all it builds on are listed. One that is
// not can be left by a prune that ran beside the upload of its manifest.
func (x *Index) Whole(id point.ID) bool {
	for range maxDepth + 1 {
		ref, ok := x.Stream(id)
		if !ok || ref.Base == "" {
			return ok
		}
		id = ref.Base
	}
	return false
}

// HasPoint tells whether a point with that number is listed.
func (x *Index) HasPoint(number int64) bool {
	return slices.ContainsFunc(x.Points, func(p PointRef) bool { return p.Number == number })
}

// Newest is the highest number of a point, which a prune never removes; 0
// when there is none.
func (x *Index) Newest() int64 { return x.highest() }

// BySnapshot finds the newest stream that makes a snapshot of a dataset.
func (x *Index) BySnapshot(origin, guid string) (StreamRef, bool) {
	for _, s := range slices.Backward(x.Streams) {
		if s.Origin == origin && s.GUID == guid {
			return s, true
		}
	}
	return StreamRef{}, false
}

func (x *Index) highest() int64 {
	if n := len(x.Points); n > 0 {
		return x.Points[n-1].Number
	}
	return 0
}

func pointKey(number int64) string { return fmt.Sprintf("%s%010d", prefixPoints, number) }

func parsePointKey(key string) (PointRef, bool) {
	digits, ok := strings.CutPrefix(key, prefixPoints)
	if !ok || len(digits) != 10 {
		return PointRef{}, false
	}
	n, err := strconv.ParseInt(digits, 10, 64)
	if err != nil || n < 1 || pointKey(n) != key {
		return PointRef{}, false
	}
	return PointRef{Number: n, Key: key}, true
}

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
