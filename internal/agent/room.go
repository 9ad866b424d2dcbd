package agent

import (
	"context"
	"fmt"
	"math"

	"snapd/internal/ship"
)

// Room is how much a repository has, in bytes. The zero value: it does not say.
type Room struct {
	Free int64 `json:"free"`
	All  int64 `json:"all"`
	// Ship is what the increments of the newest restore point took there, 0 when it
	// has none, or when that is not known.
	Ship int64 `json:"ship,omitempty"`
}

// How much room a repository should have left.
const (
	littlePart  = 5 // per cent free up to which it is little
	littleShips = 2 // ships like the last one: below that it is little
	noPart      = 2 // per cent free below which a ship is about to fail
)

// Known tells whether the repository says it.
func (r Room) Known() bool { return r.All > 0 }

// Little tells that it is nearly full.
func (r Room) Little() bool {
	return r.Known() && (r.percent() <= littlePart || r.ships() < littleShips)
}

// None tells that there is as good as no room left.
func (r Room) None() bool { return r.Known() && (r.percent() < noPart || r.ships() < 1) }

func (r Room) String() string {
	text := fmt.Sprintf("%d of %d MiB are free (%d %%)", r.Free>>20, r.All>>20, r.percent())
	if r.ships() < littleShips {
		text += fmt.Sprintf(", and the last ship took %d MiB", r.Ship>>20)
	}
	return text
}

// ships is how many ships like the last one there is room for, many when that is not
// known.
func (r Room) ships() int64 {
	if r.Ship <= 0 {
		return math.MaxInt64
	}
	return r.Free / r.Ship
}

// lastShip is what the increments of the newest point of a repository took. A full
// stream says nothing of what the next ship needs.
func lastShip(view *ship.View) (bytes int64) {
	if len(view.Points) == 0 {
		return 0
	}
	for _, s := range view.Points[len(view.Points)-1].Streams {
		if s.Base != nil {
			bytes += s.StoredBytes
		}
	}
	return bytes
}

// percent does not overflow for any size.
func (r Room) percent() int64 {
	if r.All >= 100 {
		return min(r.Free/(r.All/100), 100)
	}
	return r.Free * 100 / max(r.All, 1)
}

// noteRoom remembers for status how much room there was when a repository was
// looked at.
func (a *Agent) noteRoom(ctx context.Context, name string, repo *ship.Repository, view *ship.View) {
	free, all, err := repo.Space(ctx)
	if err != nil || a.OnlyRepositories {
		return // it cannot tell; what keeps it from answering is met by all else
	}
	a.changeFound(name, repo.ID, func(f *found) { f.Room = &Room{Free: free, All: all, Ship: lastShip(view)} })
}
