package doctor

import (
	"fmt"
	"strings"

	"snapd/internal/agent"
)

// health says what is wrong with the storages that the groups lie on, a line each.
func health(s agent.Survey) []Check {
	const name = "storage"
	var out []Check
	for _, f := range s.Ailments {
		c := Check{Check: name, Why: f.On + ": " + f.What, Do: f.Do}
		if len(f.Groups) > 0 {
			c.Why += fmt.Sprintf(" (of %s)", strings.Join(f.Groups, ", "))
		}
		if !f.Grave {
			c.Level = Warn
		}
		out = append(out, c)
	}
	if s.Unknown != nil {
		out = append(out, ill(name, s.Unknown))
	}
	if len(out) == 0 && s.Asked > 0 {
		out = append(out, well(name, "counts no errors and lacks no device, where %s", plural(s.Asked, "dataset of the groups lies", "datasets of the groups lie")))
	}
	return out
}
