package agent

import (
	"context"
	"fmt"

	"snapd/internal/ship"
)

// Room is how much a repository has, in bytes. The zero value: it does not say.
type Room struct {
	Free int64 `json:"free"`
	All  int64 `json:"all"`
}

// How much room a repository should have left.
const (
	littleRoom = 1 << 30 // bytes free below which it is little, whatever the size
	littlePart = 10      // per cent free below which it is little
	noPart     = 2       // per cent free below which a ship is about to fail
)

// Known tells whether the repository says it.
func (r Room) Known() bool { return r.All > 0 }

// Little tells that it is nearly full.
func (r Room) Little() bool {
	return r.Known() && (r.percent() < littlePart || r.Free < littleRoom)
}

// None tells that there is as good as no room left.
func (r Room) None() bool { return r.Known() && r.percent() < noPart }

func (r Room) String() string {
	return fmt.Sprintf("%d of %d MiB are free (%d %%)", r.Free>>20, r.All>>20, r.percent())
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
func (a *Agent) noteRoom(ctx context.Context, name string, repo *ship.Repository) {
	free, all, err := repo.Space(ctx)
	if err != nil || a.OnlyRepositories {
		return // it cannot tell; what keeps it from answering is met by all else
	}
	a.changeFound(name, repo.ID, func(f *found) { f.Room = &Room{Free: free, All: all} })
}
