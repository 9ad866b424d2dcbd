package main

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"snapd/internal/agent"

	"github.com/spf13/cobra"
)

func (c *cli) statusCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "status",
		GroupID: "look",
		Short:   "Say how each group stands and what needs attention",
		Args:    noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			a, done, err := c.calls(cmd.Context(), false)
			if err != nil {
				return err
			}
			defer done()
			st, err := promptly(cmd.Context(), func() (agent.Status, error) { return a.Status(cmd.Context()) })
			if err != nil {
				return err
			}
			c.result = st
			if c.json {
				return nil
			}
			now := c.now()
			var rows [][]string
			for _, g := range st.Groups {
				rows = append(rows, []string{g.Group, ago(g.NewestLocal, now), ago(g.NewestShipped, now), ago(g.NewestVerified, now), below(len(g.Attention))})
			}
			for _, line := range st.Attention {
				c.print(2, "ATTENTION: %s", joined(line))
			}
			c.table([]string{"GROUP", "NEWEST HERE", "SHIPPED", "VERIFIED", "ATTENTION"}, rows)
			c.showAttention(st.Groups)
			c.showRepositories(st.Repositories)
			if len(rows) == 0 {
				c.say("No groups: name one in the configuration, or label a container with snapd.enable=true.")
			}
			return nil
		},
	}
}

// below points to the lines of a group.
func below(n int) string {
	if n == 0 {
		return "-"
	}
	return plural(n, "line", "lines") + " below"
}

// mostLines is how many lines a group gets. What comes last is the least grave.
const mostLines = 15

// gravity is the place of a group among those that need attention: first those
// whose restore points are lost, then those of which none is taken.
func gravity(g agent.GroupStatus) int {
	failed := map[string]bool{}
	for _, f := range g.Failed {
		failed[f.Step] = failed[f.Step] || !f.Taken
	}
	switch {
	case len(g.Damaged)+len(g.Lost) > 0:
		return 0
	case g.NewestLocal == nil || failed[agent.StepSnapshot]:
		return 1
	case len(g.Changed) > 0 || g.Late != nil:
		return 2
	case len(g.Failed) > 0:
		return 3
	}
	return 4
}

// showAttention says what there is about each group, a line a fact, the gravest
// first.
func (c *cli) showAttention(groups []agent.GroupStatus) {
	groups = slices.DeleteFunc(slices.Clone(groups), func(g agent.GroupStatus) bool { return len(g.Attention) == 0 })
	slices.SortStableFunc(groups, func(a, b agent.GroupStatus) int { return cmp.Compare(gravity(a), gravity(b)) })
	for n, g := range groups {
		if n == 0 {
			c.print(0, "")
		}
		for i, line := range g.Attention {
			if i == mostLines {
				c.print(2, "%s: %d more: snapd --json status has them all", g.Group, len(g.Attention)-i)
				break
			}
			c.print(2, "%s: %s", g.Group, joined(line))
		}
	}
}

// showRepositories says when each was last looked at and read.
func (c *cli) showRepositories(all []agent.RepositoryStatus) {
	if len(all) == 0 {
		return
	}
	now := c.now()
	rows := make([][]string, len(all))
	for i, r := range all {
		orphans := ""
		if r.Orphans != nil {
			orphans = fmt.Sprintf("%d (%s)", r.Orphans.Objects, size(r.Orphans.Bytes))
		}
		rows[i] = []string{r.Repository, ago(r.Looked, now), ago(r.Verified, now), fmt.Sprint(len(r.Problems)), orphans}
	}
	c.print(0, "")
	c.table([]string{"REPOSITORY", "LOOKED AT", "VERIFIED", "UNEXPLAINED", "ORPHANS"}, rows)
}

func ago(t *time.Time, now time.Time) string {
	if t == nil {
		return "never"
	}
	d := now.Sub(*t)
	switch {
	case d <= -48*time.Hour:
		return fmt.Sprintf("in %d days", int(-d.Hours()/24))
	case d < -time.Hour:
		return fmt.Sprintf("in %d h", int(-d.Hours()))
	case d < -time.Minute:
		return fmt.Sprintf("in %d min", int(-d.Minutes()))
	case d < 0:
		return "now"
	case d < time.Minute:
		return fmt.Sprintf("%d s ago", int(d.Seconds()))
	case d < time.Hour:
		return fmt.Sprintf("%d min ago", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%d h ago", int(d.Hours()))
	}
	return fmt.Sprintf("%d days ago", int(d.Hours()/24))
}
