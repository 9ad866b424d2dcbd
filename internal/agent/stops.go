package agent

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"snapd/internal/config"
	"snapd/internal/durable"
	"snapd/internal/freeze"
	"snapd/internal/workload"
)

// slowStop is what is remembered of a window that came to nothing because the
// members took too long to stop: the next run would have them down as long again,
// for nothing again. Lost, that happens once more.
type slowStop struct {
	Took    time.Duration `json:"took_ns"` // all of them, one rank after the other
	Members []string      `json:"members"` // the IDs of those that were stopped
}

func (a *Agent) stopsFile(group string) string {
	return filepath.Join(a.State, "stops", group+".json")
}

// stopTook is how long stopping the members of a group took in a window that was
// given up for it; 0 when there was none since these containers were made.
func (a *Agent) stopTook(g workload.Group) time.Duration {
	if g.Freeze != config.FreezeStop {
		return 0
	}
	text, err := os.ReadFile(a.stopsFile(g.Name))
	var s slowStop
	if err != nil || json.Unmarshal(text, &s) != nil {
		return 0
	}
	for _, id := range s.Members {
		if _, same := g.Member(id); !same {
			return 0
		}
	}
	return s.Took
}

// noteStops remembers how long the members took to stop, if it was for that that
// the window came to nothing, and forgets it when it came to something.
func (a *Agent) noteStops(g workload.Group, stood []freeze.Stood, good bool) {
	var s slowStop
	ranks := map[int]time.Duration{}
	for _, m := range stood {
		if m.How == freeze.ByStop && m.Took > 0 {
			s.Members = append(s.Members, m.ID)
			ranks[m.Rank] = max(ranks[m.Rank], m.Took)
		}
	}
	for _, took := range ranks {
		s.Took += took
	}
	slices.Sort(s.Members)
	file := a.stopsFile(g.Name)
	var err error
	switch {
	case len(s.Members) == 0:
		return
	case good:
		if err = os.Remove(file); errors.Is(err, fs.ErrNotExist) {
			err = nil
		}
	case s.Took >= time.Duration(g.MaxWindow):
		var text []byte
		if text, err = json.Marshal(s); err == nil {
			err = os.MkdirAll(filepath.Dir(file), 0o700)
		}
		if err == nil {
			err = durable.Write(file, append(text, '\n'), 0o600)
		}
	}
	if err != nil {
		a.warnOfError(g.Name, fmt.Errorf("remember how long stopping the members took: %w", err))
	}
}
