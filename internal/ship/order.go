package ship

import (
	"slices"

	"snapd/internal/point"
)

// Order is where a point stands among those of the repository: the first number
// under which any signed record knows it. A point that is put again because a
// stream of it was damaged has a higher number, and is no newer for that. 0 of a
// point that was never read.
func (v *View) Order(id point.ID) int64 {
	if v.orders == nil {
		v.orders = v.firstNumbers()
	}
	return v.orders[id]
}

func (v *View) firstNumbers() map[point.ID]int64 {
	first := make(map[point.ID]int64, len(v.points))
	note := func(id point.ID, n int64) {
		if before, known := first[id]; !known || n < before {
			first[id] = n
		}
	}
	for n, p := range v.points {
		note(p.ID, n)
	}
	for _, e := range v.events {
		for _, d := range e.Drop {
			note(d.Point, d.Number)
		}
	}
	return first
}

// Gone tells what became of a number under which no point is kept. told: a
// signed record says that it was dropped, or is gone for good. old: version 1
// may have removed it, and kept no record.
func (v *View) Gone(number int64) (told, old bool) {
	_, told = v.explained[number]
	_, old = slices.BinarySearch(v.old, number)
	return told, old
}
