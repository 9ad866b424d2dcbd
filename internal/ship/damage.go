package ship

import (
	"fmt"
	"maps"
	"slices"

	"snapd/internal/point"
)

// judge works out anew what can be read, after a look at the data itself.
func (v *View) judge(bad map[point.ID]Damage, whole []point.ID) {
	for _, id := range whole {
		delete(v.ill, id)
	}
	for id, d := range bad {
		v.ill[id] = noted{Stream: id, Object: d.Object, Problem: d.Problem}
	}
	v.rankStreams()
	v.damage = nil
	v.findDamage()
}

// findIll adds what was found here to what the ledger says of damage.
func (v *View) findIll() {
	for _, d := range v.cache.Seen().Damage {
		if _, known := v.ill[d.Stream]; !known {
			v.ill[d.Stream] = noted{Stream: d.Stream, Object: d.Object, Problem: d.Problem}
		}
	}
	maps.Copy(v.ill, v.missing)
	for id, n := range v.removed {
		if _, known := v.ill[id]; !known {
			v.ill[id] = noted{Stream: id, Object: v.objectOf(id), Problem: fmt.Sprintf("event number %d removed it by record", n)}
		}
	}
}

func (v *View) objectOf(id point.ID) string {
	if s := v.streams[id]; s.Key != "" {
		return s.Key
	}
	return prefixStreams + string(id)
}

// findDamage says which points the ill streams reach.
func (v *View) findDamage() {
	reached := map[point.ID][]point.ID{}
	for _, p := range v.Points {
		for _, s := range p.Streams {
			if v.Whole(s.Stream) {
				continue
			}
			for id, steps := s.Stream, 0; id != "" && steps <= maxDepth; steps++ {
				if _, ill := v.ill[id]; ill && !v.replaced(id) && !last(reached[id], p.ID) {
					reached[id] = append(reached[id], p.ID)
				}
				id = v.streams[id].Base
			}
		}
	}
	for _, id := range slices.Sorted(maps.Keys(v.ill)) {
		if v.needed[id] && (len(reached[id]) > 0 || !v.replaced(id)) {
			d := v.ill[id]
			v.damage = append(v.damage, Damage{Stream: id, Object: d.Object, Problem: d.Problem, Points: reached[id]})
		}
	}
}

// last tells whether a list ends with a point.
func last(points []point.ID, id point.ID) bool { return len(points) > 0 && points[len(points)-1] == id }

// replaced tells whether another stream that can be read makes the snapshot.
// A point that names the ill one itself is still reached.
func (v *View) replaced(id point.ID) bool {
	s := v.streams[id]
	return slices.ContainsFunc(v.makers[snapshotOf{s.Origin, s.GUID}], v.Whole) && !v.named(id)
}

func (v *View) named(id point.ID) bool {
	return slices.ContainsFunc(v.Points, func(p PointRecord) bool {
		return slices.ContainsFunc(p.Streams, func(s PointStream) bool { return s.Stream == id })
	})
}
