package doctor

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"snapd/internal/agent"
	"snapd/internal/config"
	"snapd/internal/workload"
)

// groups resolves every group, as a snapshot would.
func (d doctor) groups(ctx context.Context) []Check {
	s, err := d.Agent.Survey(ctx)
	if err != nil {
		return []Check{ill("Docker engine", err)}
	}
	var out []Check
	if s.NoEngine != nil {
		out = append(out, well("Docker engine", "there is none: only groups of paths work (%v)", s.NoEngine))
	} else {
		out = append(out, well("Docker engine", "answers"))
	}
	for _, p := range s.Problems {
		out = append(out, Check{Check: "labels", Why: p.String(), Do: p.Do})
	}
	for _, g := range s.Groups {
		out = append(out, checkGroup(g))
	}
	if len(s.Groups) == 0 {
		out = append(out, Check{
			Check: "groups", Level: Warn, Why: "there is none, so nothing is protected",
			Do: "label a container with snapd.enable=true, or add a [group.NAME] to " + d.Agent.Config.File,
		})
	}
	return out
}

func checkGroup(g agent.SurveyedGroup) Check {
	name := "group " + g.Name
	if g.Err != nil {
		return ill(name, g.Err)
	}
	text := fmt.Sprintf("%s; %s%s", plural(g.Datasets, "dataset", "datasets"), g.Why, willAgree(g.Group))
	warnings, do := g.Warnings, "if that is not what you want: snapd show latest:"+g.Name+" says what a point covers"
	if slow, longest := slowToStop(g.Group); len(slow) > 0 {
		warnings = append(slices.Clone(warnings), fmt.Sprintf("%s may take up to %v to stop, and max-window is %v: there is no restore point then", strings.Join(slow, ", "), longest, g.MaxWindow))
		do = fmt.Sprintf("set max-window above %v, or give the containers a shorter stop timeout (stop_grace_period in Compose)", longest)
	}
	if len(warnings) > 0 {
		return Check{Check: name, Level: Warn, Why: text + "; " + strings.Join(warnings, "; "), Do: do}
	}
	if len(g.Notes) > 0 {
		text += "; notes: " + strings.Join(g.Notes, "; ")
	}
	return well(name, "%s", text)
}

// slowToStop names the members that the engine may leave more time to stop than
// the window has, and the longest such time.
func slowToStop(g workload.Group) (names []string, longest time.Duration) {
	for _, c := range g.Members {
		if g.Freeze == config.FreezeStop && c.Running && c.StopTimeout >= time.Duration(g.MaxWindow) {
			names, longest = append(names, c.Name), max(longest, c.StopTimeout)
		}
	}
	return names, longest
}

// willAgree says for people what a group's applications will be asked for.
func willAgree(g workload.Group) string {
	var out []string
	for _, c := range g.Members {
		if c.Commands.Quiesce != config.QuiesceNone && c.Commands.Quiesce != "" {
			out = append(out, fmt.Sprintf("%s is quiesced (%s)", c.Name, c.Commands.Quiesce))
		}
		if len(c.Commands.Hold) > 0 {
			out = append(out, c.Name+" holds its lock (hold command)")
		}
		if c.Commands.Hooks() {
			out = append(out, "hooks run in "+c.Name)
		}
	}
	if len(out) == 0 {
		return ""
	}
	return "; " + strings.Join(out, ", ")
}
