package ship

import (
	"fmt"
	"maps"
	"slices"

	"snapd/internal/point"
)

// facts are what points and events say together. They are worked out anew
// whenever one is added.
type facts struct {
	highest    int64
	top        int64            // number of the newest event that was read
	namedEvent int64            // the highest number of an event that points or this host's memory name
	givenUp    map[int64]bool   // numbers of events that cannot be read any more, as a later one says
	explained  map[int64]Digest // numbers that are dropped, with the point's digest, or absent, with none
	accounted  int64            // every number up to this one was accounted for by the host that put an event
	droppedIDs map[point.ID]bool
	lost       []PointRecord
	old        []int64 // numbers that version 1 may have removed without a record
	byID       map[point.ID]int
	superseded []PointRecord // records with a higher one of the same point
	pinned     map[point.ID]bool
	adopted    string
	orders     map[point.ID]int64 // see Order; nil until it is asked for

	streams map[point.ID]StreamRef
	ids     []point.ID                // of streams, ascending
	makers  map[snapshotOf][]point.ID // streams that make a snapshot, ascending
	removed map[point.ID]int64        // streams that an event removed by record: its number
	ill     map[point.ID]noted        // damaged or missing
	rank    map[point.ID]int          // above 0: can be read; each reads only streams of a lower rank
	under   map[point.ID]point.ID     // what a stream that can be read is read after, "" for a full one
	needed  map[point.ID]bool
	damage  []Damage
}

type snapshotOf struct{ origin, guid string }

// settle works out the facts.
func (v *View) settle() {
	v.settleNumbers()
	v.choosePoints()
	v.gatherStreams()
	v.checkLinks()
	v.findIll()
	v.rankStreams()
	v.findNeeded()
	v.findDamage()
}

// settleNumbers works out which numbers there are, and leaves points and streams
// for settle: a look asks for it after each that it reads.
func (v *View) settleNumbers() {
	many := len(v.points) + len(v.found)
	v.facts = facts{
		explained: map[int64]Digest{}, droppedIDs: map[point.ID]bool{}, byID: map[point.ID]int{}, pinned: map[point.ID]bool{},
		streams: make(map[point.ID]StreamRef, many), removed: map[point.ID]int64{}, ill: map[point.ID]noted{},
	}
	v.Problems = slices.Clone(v.met)
	v.readLedger()
	v.findHighest()
	v.findNamedEvents()
	v.Problems = slices.DeleteFunc(v.Problems, v.settled)
	v.checkNumbers()
}

func (v *View) problem(kind ProblemKind, object, format string, args ...any) {
	v.Problems = append(v.Problems, Problem{Object: object, Problem: fmt.Sprintf(format, args...), Points: []point.ID{}, Kind: kind})
}

func (v *View) hasProblem(object string) bool {
	return slices.ContainsFunc(v.Problems, func(p Problem) bool { return p.Object == object })
}

// readLedger goes through the events in their order.
func (v *View) readLedger() {
	for _, n := range slices.Sorted(maps.Keys(v.events)) {
		e := v.events[n]
		v.top = n
		for _, d := range e.Drop {
			v.explained[d.Number] = d.Digest
			v.droppedIDs[d.Point] = true
			for _, s := range d.Streams {
				v.streams[s.Stream] = s.ref()
			}
		}
		for _, gone := range e.Absent {
			v.explained[gone] = Digest{}
		}
		if e.prunes() && e.Points != nil {
			v.accounted = max(v.accounted, e.Points.Number)
		}
		for _, id := range e.Pin {
			v.pinned[id] = true
		}
		for _, id := range e.Unpin {
			delete(v.pinned, id)
		}
		v.readStreamsOf(e)
		if e.Adopt != nil {
			v.adopted = e.Adopt.Host
		}
	}
}

// readStreamsOf reads what one event says of streams.
func (v *View) readStreamsOf(e event) {
	for _, id := range slices.Concat(e.Remove, e.Abandon) {
		v.removed[id] = e.Number
	}
	for _, d := range e.Damage {
		v.ill[d.Stream] = d
	}
	for _, id := range e.Whole {
		delete(v.ill, id)
		delete(v.removed, id)
	}
}

// findHighest finds the highest number that any signed record knows of.
func (v *View) findHighest() {
	for n := range v.points {
		v.highest = max(v.highest, n)
	}
	for n := range v.explained {
		v.highest = max(v.highest, n)
	}
	for _, e := range v.events {
		if e.Points != nil {
			v.highest = max(v.highest, e.Points.Number)
		}
	}
	if seen := v.cache.Seen().Point; seen != nil {
		v.highest = max(v.highest, seen.Number)
	}
}

// choosePoints finds the valid record of each point: of two the higher one.
func (v *View) choosePoints() {
	numbers := slices.Sorted(maps.Keys(v.points))
	valid := make(map[point.ID]int64, len(numbers))
	kept := numbers[:0]
	var gone []PointRecord
	for _, n := range numbers {
		p := v.points[n]
		if _, explained := v.explained[n]; explained {
			continue
		}
		if v.absent[n] {
			gone = append(gone, *p)
			continue
		}
		valid[p.ID] = n
		kept = append(kept, n)
	}
	v.chooseLost(gone, valid)
	v.Points = make([]PointRecord, 0, len(valid))
	v.byID = make(map[point.ID]int, len(valid))
	for _, n := range kept {
		p := v.points[n]
		if valid[p.ID] != n {
			v.superseded = append(v.superseded, *p)
			continue
		}
		v.byID[p.ID] = len(v.Points)
		v.Points = append(v.Points, *p)
	}
}

// chooseLost sorts the records that do not verify any more. One that was damaged,
// and whose point was put again, is a lower record like others: a prune drops it,
// since what it said is known.
func (v *View) chooseLost(gone []PointRecord, valid map[point.ID]int64) {
	for _, p := range gone {
		if !v.junk[p.Number] || valid[p.ID] < p.Number {
			v.lost = append(v.lost, p)
			continue
		}
		v.superseded = append(v.superseded, p)
		v.Problems = slices.DeleteFunc(v.Problems, func(o Problem) bool { return o.Object == pointKey(p.Number) })
	}
}

// gatherStreams brings together what is signed of streams. What a point of
// format 1 says is less than its manifest does.
func (v *View) gatherStreams() {
	for _, p := range v.points {
		for _, s := range p.Streams {
			if known, there := v.streams[s.Stream]; !there || known.Key == "" {
				v.streams[s.Stream] = s.Ref()
			}
		}
	}
	for id, s := range v.found {
		if known := v.streams[id]; known.Digest.IsZero() || known.Digest == s.Digest {
			v.streams[id] = s
		}
	}
	v.ids = slices.Sorted(maps.Keys(v.streams))
	v.makers = make(map[snapshotOf][]point.ID, len(v.ids))
	for _, id := range v.ids {
		s := v.streams[id]
		at := snapshotOf{s.Origin, s.GUID}
		v.makers[at] = append(v.makers[at], id)
	}
}

// checkNumbers looks for numbers that nothing explains.
func (v *View) checkNumbers() {
	oldest := int64(0) // the highest number of a point of version 1
	for n, p := range v.points {
		if p.format == formatOne {
			oldest = max(oldest, n)
		}
	}
	seen := v.cache.Seen()
	for n := int64(1); n <= v.highest; n++ {
		_, read := v.points[n]
		if _, gone := v.explained[n]; gone || read && !v.absent[n] || v.junk[n] {
			continue
		}
		switch {
		case seen.Point != nil && n == seen.Point.Number:
			v.problem(KindRolledBack, pointKey(n), "rolled back: point number %d was seen before and is gone", n)
		case n < oldest && n > v.accounted && !read:
			v.old = append(v.old, n)
		default:
			v.problem(KindMissing, pointKey(n), "point number %d is missing: it was neither removed by a signed record nor can it be read", n)
		}
	}
	if len(v.old) > 0 {
		v.problem(KindOldGaps, prefixPoints, "version 1 kept no record of removals: %d numbers are not explained; a prune asks for each and writes it down", len(v.old))
	}
	for n := int64(1); n < v.top; n++ {
		if _, there := v.events[n]; !there && !v.givenUp[n] && !v.passedOver(n) && !v.hasProblem(eventKey(n)) {
			v.problem(KindMissing, eventKey(n), "event number %d is missing: it cannot be read", n)
		}
	}
	if seen.Event != nil && seen.Event.Number > v.top {
		v.problem(KindRolledBack, eventKey(seen.Event.Number), "rolled back: event number %d was seen before and is gone", seen.Event.Number)
	}
}

// passedOver tells whether a later event says that no event had that number.
func (v *View) passedOver(n int64) bool {
	for _, e := range v.events {
		if e.Number > n {
			if e.Previous == nil || e.Previous.Number < n {
				return true
			}
		}
	}
	return false
}

// checkLinks compares what records say of each other with what lies there.
func (v *View) checkLinks() {
	point := func(l *Link, who string) {
		if l == nil {
			return
		}
		if p, ok := v.points[l.Number]; ok && p.Digest != l.Digest && !v.absent[l.Number] {
			v.problem(KindRolledBack, pointKey(l.Number), "point number %d: damaged: it is not the one that %s names", l.Number, who)
		}
	}
	event := func(l *Link, who string) {
		if l == nil {
			return
		}
		if e, ok := v.events[l.Number]; ok && e.digest != l.Digest {
			v.problem(KindRolledBack, eventKey(l.Number), "event number %d: damaged: it is not the one that %s names", l.Number, who)
		} else if !ok && l.Number > v.top && !v.givenUp[l.Number] && !v.hasProblem(eventKey(l.Number)) { // said once, however many name it
			v.problem(KindRolledBack, eventKey(l.Number), "rolled back: %s was put after event number %d, which is gone", who, l.Number)
		}
	}
	for _, n := range slices.Sorted(maps.Keys(v.points)) {
		p := v.points[n]
		who := fmt.Sprintf("point number %d", n)
		point(p.previous, who)
		event(p.events, who)
	}
	for _, n := range slices.Sorted(maps.Keys(v.events)) {
		who := fmt.Sprintf("event number %d", n)
		point(v.events[n].Points, who)
		event(v.events[n].Previous, who)
	}
	seen := v.cache.Seen()
	point(seen.Point, "this host's memory")
	event(seen.Event, "this host's memory")
}
