package doctor

import (
	"strings"
	"testing"
	"time"

	"snapd/internal/agent"
	"snapd/internal/config"
	"snapd/internal/workload"
)

// TestStopsThatMayTakeTooLong: a stop that can last longer than the window is a
// warning before it has cost anything.
func TestStopsThatMayTakeTooLong(t *testing.T) {
	group := func(freeze config.Freeze, window time.Duration, running bool) agent.SurveyedGroup {
		g := agent.SurveyedGroup{Datasets: 1, Why: "db was stopped"}
		g.Name, g.Freeze, g.MaxWindow = "shop", freeze, config.Duration(window)
		g.Members = []workload.Container{{Name: "db", Running: running, StopTimeout: 10 * time.Second}, {Name: "web", Running: true, StopTimeout: time.Second}}
		return g
	}
	for name, c := range map[string]struct {
		group agent.SurveyedGroup
		want  Level
	}{
		"the defaults":       {group(config.FreezeStop, 5*time.Second, true), Warn},
		"just as long":       {group(config.FreezeStop, 10*time.Second, true), Warn},
		"a longer window":    {group(config.FreezeStop, 12*time.Second, true), OK},
		"one that is frozen": {group(config.FreezeGroup, 5*time.Second, true), OK},
		"one that is not up": {group(config.FreezeStop, 5*time.Second, false), OK},
	} {
		all := checkGroup(c.group)
		got := all[len(all)-1] // a line a fact
		if all[0].level() != OK || got.level() != c.want {
			t.Errorf("%s: %+v", name, got)
		}
		if c.want == Warn && (!strings.Contains(got.Why, "db may take up to 10s to stop") || strings.Contains(got.Why, "web may") || !strings.Contains(got.Do, "set max-window above 10s")) {
			t.Errorf("%s: %+v", name, got)
		}
	}
}
