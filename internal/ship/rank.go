package ship

import "snapd/internal/point"

// rankStreams finds the streams that can be read, from the full ones upwards:
// so there can be no circles.
func (v *View) rankStreams() {
	v.rank, v.under = make(map[point.ID]int, len(v.ids)), make(map[point.ID]point.ID, len(v.ids))
	onBase := map[point.ID][]point.ID{}
	onSnapshot := map[snapshotOf][]point.ID{}
	var queue []point.ID
	reach := func(id, under point.ID) {
		if _, ill := v.ill[id]; !ill && v.rank[id] == 0 {
			v.rank[id], v.under[id] = len(v.rank)+1, under
			queue = append(queue, id)
		}
	}
	var fulls []point.ID
	for _, id := range v.ids {
		s := v.streams[id]
		if s.Base == "" {
			fulls = append(fulls, id)
			continue
		}
		onBase[s.Base] = append(onBase[s.Base], id)
		if s.BaseGUID != "" {
			at := snapshotOf{s.Origin, s.BaseGUID}
			onSnapshot[at] = append(onSnapshot[at], id)
		}
	}
	for _, id := range fulls {
		reach(id, "")
	}
	// First by the bases that were meant, then by what makes the same snapshot.
	for from := 0; from < len(queue); from++ { //nolint:intrange // reach makes the queue longer meanwhile
		for _, next := range onBase[queue[from]] {
			reach(next, queue[from])
		}
	}
	for from := 0; from < len(queue); from++ { //nolint:intrange // reach makes the queue longer meanwhile
		id := queue[from]
		for _, next := range onBase[id] {
			reach(next, id)
		}
		s := v.streams[id]
		for _, next := range onSnapshot[snapshotOf{s.Origin, s.GUID}] {
			reach(next, id)
		}
	}
}

// need marks a stream and all that it is read after, with what it was meant to
// be read after, and what can stand for that. It returns false where the chain
// is not known down to a full stream.
func (v *View) need(set map[point.ID]bool, id point.ID) (known bool) {
	for steps := 0; id != ""; steps++ {
		if set[id] {
			return true // known, or told already
		}
		set[id] = true
		s, ok := v.streams[id]
		if !ok || steps > maxDepth {
			return false
		}
		if _, ill := v.ill[id]; ill {
			for _, other := range v.makers[snapshotOf{s.Origin, s.GUID}] {
				if v.Whole(other) {
					v.need(set, other)
				}
			}
		}
		if under := v.under[id]; under != s.Base {
			v.need(set, under)
		}
		id = s.Base
	}
	return true
}

func (v *View) findNeeded() {
	v.needed = make(map[point.ID]bool, len(v.ids))
	for _, p := range v.Points {
		for _, s := range p.Streams {
			if !v.need(v.needed, s.Stream) {
				v.problem(KindChain, v.objectOf(s.Stream), "what stream %s of point %s builds on is not known down to a full stream", s.Stream, p.ID)
			}
		}
	}
}
