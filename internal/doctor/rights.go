package doctor

import (
	"context"
	"strings"

	systemd "snapd/internal/host"
)

// rights tells whether the agent's unit still gives the agent what its code needs:
// doctor itself runs outside of the agent's sandbox, so that what it can do says
// nothing of the agent.
func (s serviceCheck) rights(ctx context.Context, storages []string) []Check {
	const name = "rights of the agent"
	if s.state(ctx, systemd.AgentService).Loaded != "loaded" {
		return nil // the check of the socket has said so
	}
	lacking, err := s.units.Lacking(ctx, storages)
	if err != nil {
		return []Check{ill(name, err)}
	}
	return checkRights(name, lacking)
}

func checkRights(name string, lacking []systemd.Lack) []Check {
	if len(lacking) == 0 {
		return []Check{well(name, "its unit gives it what it needs")}
	}
	var out []Check
	for _, l := range lacking {
		c := Check{Check: name, Why: systemd.AgentService + " does not give it " + l.String() + ": " + l.Without}
		if l.Less {
			c.Level = Warn
		}
		c.Do = "install the Debian package anew, which brings the unit"
		if len(l.From) > 0 {
			c.Do = "correct " + l.Setting + "= in " + strings.Join(l.From, ", ")
		}
		c.Do += "; then run: systemctl daemon-reload && systemctl stop " + systemd.AgentService
		out = append(out, c)
	}
	return out
}
