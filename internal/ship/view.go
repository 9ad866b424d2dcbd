package ship

import (
	"context"
	"errors"
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

	cache  *Cache // nil: remembers nothing
	look   Look
	points map[int64]PointRecord // every verified one that no event explains away
	events map[int64]event
	facts
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
	Stream  point.ID
	Object  string     // key of what is damaged or missing
	Problem string     // what is wrong
	Points  []point.ID // kept points that cannot be restored because of it, ascending; set by View
}

// View reads what the repository holds. cache may be nil.
func (r *Repository) View(_ context.Context, _ *Cache, _ Look) (*View, error) {
	return nil, errors.New("view: not yet made")
}

// Highest is the highest number of a point that any signed record knows of, be
// it kept, dropped, absent or lost. The next point goes above it.
func (v *View) Highest() int64 { return v.highest }

// Point is the valid record of a kept point.
func (v *View) Point(id point.ID) (PointRecord, bool) {
	i := slices.IndexFunc(v.Points, func(p PointRecord) bool { return p.ID == id })
	if i < 0 {
		return PointRecord{}, false
	}
	return v.Points[i], true
}

// HasPoint tells whether that number is the valid record of a kept point.
func (v *View) HasPoint(number int64) bool {
	return slices.ContainsFunc(v.Points, func(p PointRecord) bool { return p.Number == number })
}

// Dropped tells whether a signed event removed the point, and no higher record
// of it is kept.
func (v *View) Dropped(id point.ID) bool { _, kept := v.Point(id); return !kept && v.droppedIDs[id] }

// Pinned tells whether a point stays whatever retention says.
func (v *View) Pinned(id point.ID) bool { return v.pinned[id] }

// Lost are points that were verified once, were not dropped, and of which a
// Get now says that they are not there; ascending by number.
func (v *View) Lost() []PointRecord { return v.lost }

// Stream says what is known of a stream: of kept points, of dropped ones, or
// of a manifest that was read.
func (v *View) Stream(id point.ID) (StreamRef, bool) { s, ok := v.streams[id]; return s, ok }

// Streams are those that kept points name or need, ascending by id.
func (v *View) Streams() []StreamRef { return nil }

// BySnapshot is the newest undamaged stream that makes a snapshot.
func (v *View) BySnapshot(_, _ string) (StreamRef, bool) { return StreamRef{}, false }

// Whole tells whether a stream can be read: its chain is known down to a full
// one and nothing on it is damaged or missing. A damaged base counts as there
// when another undamaged stream of the same origin makes the same snapshot.
func (v *View) Whole(_ point.ID) bool { return false }

// Damage is what was found damaged or missing and not whole since, ascending
// by stream.
func (v *View) Damage() []Damage { return nil }

// HostOf is the opaque id of the host that put a point, "" of one that is not
// kept.
func (v *View) HostOf(number int64) string { return v.points[number].Host }

// Writers are the verified points with a number above since, ascending: who
// compares their hosts finds a clone.
func (v *View) Writers(_ int64) []PointRecord { return nil }

// Adopted is the host that a person last said goes on, "" if never.
func (v *View) Adopted() string { return v.adopted }

// facts are what points and events say together.
type facts struct {
	highest    int64
	lost       []PointRecord
	droppedIDs map[point.ID]bool
	pinned     map[point.ID]bool
	adopted    string
	streams    map[point.ID]StreamRef
}
