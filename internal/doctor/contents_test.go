package doctor

import (
	"strings"
	"testing"

	"snapd/internal/agent"
)

// TestWhatLiesInARepository: each thing that a look finds is a check of its
// own, with the level that it deserves and something to do.
func TestWhatLiesInARepository(t *testing.T) {
	ids := []string{"06a1", "06a2", "06a3", "06a4"}
	for name, c := range map[string]struct {
		found agent.Examined
		check string
		level Level
		says  string
	}{
		"nothing known":     {agent.Examined{}, "  damage", OK, "none is known"},
		"damaged":           {agent.Examined{Damaged: ids[:1], Spoiled: 1}, "  damage", Fail, "1 restore point is damaged (06a1)"},
		"many damaged":      {agent.Examined{Damaged: ids, Spoiled: 1}, "  damage", Fail, "06a3, and 1 more)"},
		"lost":              {agent.Examined{Lost: ids[:2]}, "  damage", Fail, "2 restore points are gone"},
		"others stand in":   {agent.Examined{Spoiled: 2}, "  damage", OK, "take their place"},
		"explained":         {agent.Examined{}, "  records", OK, "explained"},
		"unexplained":       {agent.Examined{Problems: []string{"meta/points/0000000003: missing", ""}}, "  records", Fail, "(and 1 more)"},
		"same recipients":   {agent.Examined{Encrypted: true}, "  recipients", OK, "open all"},
		"other recipients":  {agent.Examined{Encrypted: true, Other: ids[:1]}, "  recipients", Warn, "encrypted for others"},
		"mixed recipients":  {agent.Examined{Encrypted: true, Other: ids[:1], Mixed: ids[:1]}, "  recipients", Fail, "no single set"},
		"room":              {agent.Examined{Room: agent.Room{Free: 50 << 30, All: 100 << 30}}, "  space", OK, "(50 %)"},
		"little room":       {agent.Examined{Room: agent.Room{Free: 5 << 30, All: 100 << 30}}, "  space", Warn, "(5 %)"},
		"a small disk":      {agent.Examined{Room: agent.Room{Free: 4 << 27, All: 10 << 27}}, "  space", OK, "512 of 1280 MiB"},
		"room for one ship": {agent.Examined{Room: agent.Room{Free: 4 << 30, All: 10 << 30, Ship: 3 << 30}}, "  space", Warn, "the last ship took 3072 MiB"},
		"no room for one":   {agent.Examined{Room: agent.Room{Free: 4 << 30, All: 10 << 30, Ship: 5 << 30}}, "  space", Fail, "the last ship took 5120 MiB"},
		"no room":           {agent.Examined{Room: agent.Room{Free: 1 << 30, All: 100 << 30}}, "  space", Fail, "(1 %)"},
		"nothing left":      {agent.Examined{Room: agent.Room{Free: 0, All: 100 << 30}}, "  space", Fail, "(0 %)"},
		"from the future":   {agent.Examined{Future: ids[:1]}, "  clock", Warn, "in the future (06a1)"},
		"a huge filesystem": {agent.Examined{Room: agent.Room{Free: 1 << 62, All: 1<<63 - 1}}, "  space", OK, "(50 %)"},
	} {
		t.Run(name, func(t *testing.T) {
			for _, got := range contents("main", c.found) {
				if got.Check != c.check {
					continue
				}
				if got.level() != c.level || !strings.Contains(got.Why, c.says) || (got.Do == "") != (c.level == OK) {
					t.Errorf("got %s, %+v", got.level(), got)
				}
				return
			}
			t.Errorf("no check %q", c.check)
		})
	}
	for _, got := range contents("main", agent.Examined{}) {
		if got.Check == "  clock" || got.Check == "  space" || got.Check == "  recipients" {
			t.Errorf("a check of what cannot be checked: %+v", got)
		}
	}
}
