package ship

import (
	"cmp"
	"slices"

	"snapd/internal/point"
)

// View is what signed facts say that a repository holds. A listing only ever
// added to it: what a listing lacked was asked for by name. It is not safe for
// use by several goroutines at once.
type View struct {
	Points   []PointRecord // the valid record (highest number) of each point id that was not dropped, ascending by number
	Problems []Problem     // what is unexplained: while there is any, nothing is deleted
	Notes    []string      // said to people, stops nothing

	facts

	cache   *Cache // nil: remembers nothing
	look    Look
	points  map[int64]*PointRecord // every verified one
	events  map[int64]event
	found   map[point.ID]StreamRef // of manifests that were read
	absent  map[int64]bool         // numbers without a verified point, by a Get just now
	junk    map[int64]bool         // numbers under which something else than a point of ours lies
	unread  map[int64]bool         // events that lie there, do not verify, and were never read
	broken  map[int64]bool         // events that were read before, and are damaged or gone now
	met     []Problem              // what the look itself met
	missing map[point.ID]noted     // manifests that a Get did not find, or that do not verify
	left    map[string]bool        // keys that an event removed by record and that a listing still names
	fresh   map[string]bool        // keys that an event removed by record since the view was made
}

// Look says how far a View looks.
type Look int

// The looks.
const (
	// Known is from the cache and by probing upwards from it: for ships and
	// runs, a constant number of requests. Without a cache it is Whole.
	Known Look = iota
	// Whole also lists meta/, fetches what is listed and not known, and asks by
	// name for what is known or due and was not listed.
	Whole
)

// Damage is a stream that cannot be read whole, and what that reaches.
type Damage struct {
	Stream  point.ID   `json:"stream"`
	Object  string     `json:"object"`           // key of what is damaged or missing
	Problem string     `json:"problem"`          // what is wrong
	Points  []point.ID `json:"points,omitempty"` // kept points that cannot be restored because of it; set by View
}

// Highest is the highest number of a point that any signed record knows of, be
// it kept, dropped, absent or lost. The next point goes above it.
func (v *View) Highest() int64 { return v.highest }

// Point is the valid record of a kept point.
func (v *View) Point(id point.ID) (PointRecord, bool) {
	i, ok := v.byID[id]
	if !ok {
		return PointRecord{}, false
	}
	return v.Points[i], true
}

// HasPoint tells whether that number is the valid record of a kept point.
func (v *View) HasPoint(number int64) bool {
	_, ok := slices.BinarySearchFunc(v.Points, number, func(p PointRecord, n int64) int { return cmp.Compare(p.Number, n) })
	return ok
}

// Dropped tells whether a signed event removed the point, and no higher record
// of it is kept.
func (v *View) Dropped(id point.ID) bool {
	_, kept := v.byID[id]
	return !kept && v.droppedIDs[id]
}

// Pinned tells whether a point stays whatever retention says.
func (v *View) Pinned(id point.ID) bool { return v.pinned[id] }

// Lost are points that were verified once, were not dropped, and of which a
// Get now says that they are not there; ascending by number.
func (v *View) Lost() []PointRecord { return v.lost }

// Stream says what is known of a stream: by points, kept or dropped, or by a
// manifest that was read.
func (v *View) Stream(id point.ID) (StreamRef, bool) {
	s, ok := v.streams[id]
	return s, ok
}

// Streams are those that kept points name or need, ascending by id.
func (v *View) Streams() []StreamRef {
	out := make([]StreamRef, 0, len(v.needed))
	for _, id := range sortedIDs(v.needed) {
		if s, ok := v.streams[id]; ok {
			out = append(out, s)
		}
	}
	return out
}

// BySnapshot is the newest whole stream that makes a snapshot.
func (v *View) BySnapshot(origin, guid string) (StreamRef, bool) {
	for _, id := range slices.Backward(v.makers[snapshotOf{origin, guid}]) {
		if v.Whole(id) {
			return v.streams[id], true
		}
	}
	return StreamRef{}, false
}

// Whole tells whether a stream can be read: its chain is known down to a full
// one and nothing on it is damaged or missing. A damaged base counts as there
// when another undamaged stream of the same origin makes the same snapshot.
func (v *View) Whole(stream point.ID) bool { return v.rank[stream] > 0 }

// Damage is what was found damaged or missing and neither found whole since
// nor shipped anew; ascending by stream.
func (v *View) Damage() []Damage { return v.damage }

// HostOf is the opaque id of the host that put a point, "" of one that was not
// read.
func (v *View) HostOf(number int64) string {
	if p, ok := v.points[number]; ok {
		return p.Host
	}
	return ""
}

// Writers are the verified points with a number above since, ascending, also
// those that were dropped meanwhile: a caller that compares their hosts finds a
// clone. They are shared with the view, and not to be changed.
func (v *View) Writers(since int64) []*PointRecord {
	var out []*PointRecord
	for n, p := range v.points {
		if n > since {
			out = append(out, p)
		}
	}
	slices.SortFunc(out, func(a, b *PointRecord) int { return cmp.Compare(a.Number, b.Number) })
	return out
}

// Adopted is the host that a person last said goes on, "" if never.
func (v *View) Adopted() string { return v.adopted }

// newestPoint is the link that the next point and the next event name.
func (v *View) newestPoint() *Link {
	var newest *Link
	for n, p := range v.points {
		if newest == nil || n > newest.Number {
			newest = &Link{Number: n, Digest: p.Digest}
		}
	}
	// One that was dropped after this host had read of it was a point too.
	for n, d := range v.explained {
		if !d.IsZero() && (newest == nil || n > newest.Number) {
			newest = &Link{Number: n, Digest: d}
		}
	}
	return newest
}

func (v *View) newestEvent() *Link {
	if v.top == 0 {
		return nil
	}
	return v.events[v.top].link()
}
