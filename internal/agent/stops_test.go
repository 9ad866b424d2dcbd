package agent

import (
	"testing"
	"time"

	"snapd/internal/config"
	"snapd/internal/freeze"
	"snapd/internal/workload"
)

// TestSlowStopsAreRemembered until they cannot happen again in the same way.
func TestSlowStopsAreRemembered(t *testing.T) {
	a := &Agent{Options: Options{State: t.TempDir(), Report: func(e Event) { t.Errorf("told: %+v", e) }}}
	g := workload.Group{Members: []workload.Container{{ID: "db"}, {ID: "web"}}}
	g.Name, g.Freeze, g.MaxWindow = "shop.1", config.FreezeStop, config.Duration(5*time.Second)
	stood := func(id string, rank int, took time.Duration) freeze.Stood {
		return freeze.Stood{Member: freeze.Member{ID: id, Rank: rank}, How: freeze.ByStop, Took: took}
	}
	if took := a.stopTook(g); took != 0 {
		t.Errorf("of a new group: %v", took)
	}
	a.noteStops(g, []freeze.Stood{stood("web", 0, 2*time.Second), stood("db", 1, time.Second)}, false)
	if took := a.stopTook(g); took != 0 {
		t.Errorf("a window that was given up for another reason: %v", took)
	}
	slow := []freeze.Stood{stood("web", 0, 3*time.Second), stood("db", 1, 4*time.Second)}
	a.noteStops(g, slow, false)
	if took := a.stopTook(g); took != 7*time.Second {
		t.Errorf("one after the other: %v", took)
	}
	anew := g
	anew.Members = []workload.Container{{ID: "db"}, {ID: "web made anew"}}
	frozen := g
	frozen.Freeze = config.FreezeGroup
	for name, other := range map[string]workload.Group{"a member that was made anew": anew, "members that are frozen": frozen} {
		if took := a.stopTook(other); took != 0 {
			t.Errorf("%s: %v", name, took)
		}
	}
	a.noteStops(g, nil, false) // nothing was stopped: it was refused
	if took := a.stopTook(g); took != 7*time.Second {
		t.Errorf("after a refusal: %v", took)
	}
	a.noteStops(g, slow, true)
	if took := a.stopTook(g); took != 0 {
		t.Errorf("after a point: %v", took)
	}
	a.noteStops(g, slow, true) // nothing to forget
}
