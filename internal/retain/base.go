package retain

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"snapd/internal/point"
)

// Chains are bounded by skip-level increments: a stream whose number in its
// dataset's chain is a multiple of 16 (256) builds on the one 16 (256)
// before it, all others on the one just before. A point is then at most
// 15 + 15 + n/256 streams away from the full one, a stream repeats what
// changed at most twice, and only three local snapshots have to stay. A chain
// deeper than MaxDepth is begun anew.
const (
	radix  = 16
	levels = 2
	// MaxDepth is how many streams a restore reads before the last one.
	MaxDepth = 64
)

// Stream is a committed stream of one dataset in one repository.
type Stream struct {
	ID     point.ID
	GUID   string // of the snapshot it brings
	Number int    // place in the dataset's chain, from 0
	Depth  int    // streams below it, 0 for a full one
}

// Choice is what the next stream builds on.
type Choice struct {
	Base   *Stream // nil: a full stream
	Number int
	Depth  int
	Why    string
}

// Base chooses among the committed streams of a dataset. usable tells whether
// the snapshot with that guid is still on this host and older than the one to
// be sent.
func Base(streams []Stream, usable func(guid string) bool) Choice {
	next := 0
	var best, skip *Stream
	for _, s := range byNumber(streams) {
		next = s.Number + 1
	}
	want := skipTo(next)
	tooDeep := 0
	for _, s := range byNumber(streams) {
		if !usable(s.GUID) {
			continue
		}
		if s.Depth+1 > MaxDepth {
			tooDeep++
			continue
		}
		best = &s
		if s.Number <= want {
			skip = &s
		}
	}
	switch {
	case len(streams) == 0:
		return Choice{Why: "full: first stream of this dataset here"}
	case best == nil && tooDeep > 0:
		return Choice{Number: next, Why: fmt.Sprintf("full: the chain has %d increments", MaxDepth)}
	case best == nil:
		return Choice{Number: next, Why: "full: no shipped snapshot is left on this host to build on"}
	case skip != nil && skip.Number < best.Number:
		return Choice{Base: skip, Number: next, Depth: skip.Depth + 1, Why: fmt.Sprintf("skips to number %d to keep the chain short", skip.Number)}
	}
	return Choice{Base: best, Number: next, Depth: best.Depth + 1, Why: "newest snapshot that both sides have"}
}

// Needed returns the guids of the snapshots that future increments want to
// find on this host. But for the newest they are those of streams since a
// moment: where points are rare, the one that is skipped to would stay for years
// to save a stream of which MaxDepth needs no saving, and all that was removed
// since would take room as long.
func Needed(streams []Stream, since time.Time) map[string]bool {
	out := map[string]bool{}
	sorted := slices.DeleteFunc(byNumber(streams), func(s Stream) bool { return s.Depth >= MaxDepth })
	if len(sorted) == 0 {
		return out
	}
	newest := sorted[len(sorted)-1].Number
	step := 1
	for range levels + 1 {
		want := newest / step * step
		var base *Stream
		for _, s := range sorted {
			if s.Number <= want {
				base = &s
			}
		}
		if base != nil && (base.Number == newest || !base.ID.Time().Before(since)) {
			out[base.GUID] = true
		}
		step *= radix
	}
	return out
}

// skipTo is the number that stream n builds on.
func skipTo(n int) int {
	step := 1
	for range levels {
		if n%(step*radix) != 0 {
			break
		}
		step *= radix
	}
	return n - step
}

func byNumber(streams []Stream) []Stream {
	out := slices.Clone(streams)
	slices.SortFunc(out, func(a, b Stream) int { return cmp.Or(cmp.Compare(a.Number, b.Number), cmp.Compare(a.ID, b.ID)) })
	return out
}
