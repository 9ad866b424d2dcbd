package doctor

import (
	"cmp"
	"context"
	"fmt"
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
	out = append(out, health(s)...)
	for _, p := range s.Problems {
		out = append(out, Check{Check: "labels", Why: p.String(), Do: p.Do})
	}
	for _, g := range s.Groups {
		out = append(out, checkGroup(g)...)
	}
	if len(s.Groups) == 0 {
		out = append(out, Check{
			Check: "groups", Level: Warn, Why: "there is none, so nothing is protected",
			Do: "label a container with snapd.enable=true, or add a [group.NAME] to " + d.Agent.Config.File,
		})
	}
	return out
}

// checkGroup says a fact a line: first how the group is taken, then what it does
// not cover and the like, the gravest first.
func checkGroup(g agent.SurveyedGroup) []Check {
	name := "group " + g.Name
	if g.Err != nil {
		return []Check{ill(name, g.Err)}
	}
	out := []Check{well(name, "%s; %s%s", plural(g.Datasets, "dataset", "datasets"), g.Why, willAgree(g.Group))}
	if slow, longest := slowToStop(g.Group); len(slow) > 0 {
		out = append(out, Check{
			Check: name, Level: Warn,
			Why: fmt.Sprintf("%s may take up to %v to stop, and max-window is %v: there is no restore point then", strings.Join(slow, ", "), longest, g.MaxWindow),
			Do:  fmt.Sprintf("set max-window above %v, or give the containers a shorter stop timeout (stop_grace_period in Compose)", longest),
		})
	}
	for i, w := range g.Warnings {
		out = append(out, Check{
			Check: name, Level: Warn, Why: w,
			Do: cmp.Or(g.Dos[i], "if that is not what you want: snapd show latest:"+g.Name+" says what a point covers"),
		})
	}
	for _, n := range g.Notes {
		out = append(out, well(name, "note: %s", n))
	}
	return out
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
