package doctor

import (
	"errors"
	"strings"
	"testing"

	"snapd/internal/agent"
	"snapd/internal/fs"
)

func TestHealthOfStorage(t *testing.T) {
	ailment := func(grave bool) agent.Ailment {
		return agent.Ailment{Finding: fs.Finding{On: "pool tank", What: "is DEGRADED", Do: "zpool status", Grave: grave}, Groups: []string{"shop", "wiki"}}
	}
	for name, c := range map[string]struct {
		survey agent.Survey
		want   []Level
		say    string
	}{
		"no dataset is known": {agent.Survey{}, nil, ""},
		"sound":               {agent.Survey{Asked: 2}, []Level{OK}, "2 datasets"},
		"gone":                {agent.Survey{Asked: 2, Ailments: []agent.Ailment{ailment(true)}}, []Level{Fail}, "pool tank: is DEGRADED (of shop, wiki)"},
		"counted":             {agent.Survey{Asked: 2, Ailments: []agent.Ailment{ailment(false)}}, []Level{Warn}, "pool tank"},
		"not known":           {agent.Survey{Asked: 2, Unknown: errors.New("it hangs")}, []Level{Fail}, "it hangs"},
	} {
		got := health(c.survey)
		if len(got) != len(c.want) {
			t.Errorf("%s: %+v", name, got)
			continue
		}
		for i, check := range got {
			if check.level() != c.want[i] || !strings.Contains(check.Why, c.say) {
				t.Errorf("%s: %+v", name, check)
			}
		}
	}
}
