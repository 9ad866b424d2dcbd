package doctor

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"snapd/internal/agent"
	"snapd/internal/config"
	"snapd/internal/ship"
)

// mute is a bucket of a server that takes calls and never answers them.
type mute struct{ asked }

func (m mute) Probe(ctx context.Context) (bool, error) {
	<-ctx.Done()
	return false, ctx.Err()
}

// Servers that do not answer are waited for at the same time, and for so long only;
// each is named in one line.
func TestServersThatDoNotAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		conf := &config.Config{Repositories: map[string]config.Repository{"a": {}, "b": {}, "c": {}}}
		d := doctor{Options{Agent: &agent.Agent{Options: agent.Options{Config: conf}}, Bucket: func(config.Repository) (Bucket, error) { return mute{}, nil }}}
		begun := time.Now()
		checks := d.repositories(t.Context())
		if took := time.Since(begun); took > answerWithin {
			t.Errorf("it took %v", took)
		}
		if len(checks) != 3 {
			t.Fatalf("%+v", checks)
		}
		for i, c := range checks {
			if c.Check != "repository "+[]string{"a", "b", "c"}[i] || c.level() != Fail || !errors.Is(c.Err, ship.ErrUnavailable) || !strings.Contains(c.Why, "within 20s") {
				t.Errorf("%+v", c)
			}
		}
	})
}
