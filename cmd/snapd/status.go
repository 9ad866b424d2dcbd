package main

import (
	"fmt"
	"strings"
	"time"

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
			st, err := a.Status(cmd.Context())
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
				rows = append(rows, []string{g.Group, ago(g.NewestLocal, now), ago(g.NewestShipped, now), ago(g.NewestVerified, now), strings.Join(g.Attention, "; ")})
			}
			for _, line := range st.Attention {
				fmt.Fprintln(c.stdout, "ATTENTION:", printable(line))
			}
			c.table([]string{"GROUP", "NEWEST HERE", "SHIPPED", "VERIFIED", "ATTENTION"}, rows)
			if len(rows) == 0 {
				c.say("No groups: name one in the configuration, or label a container with snapd.enable=true.")
			}
			return nil
		},
	}
}

func ago(t *time.Time, now time.Time) string {
	if t == nil {
		return "never"
	}
	d := now.Sub(*t)
	switch {
	case d < time.Minute:
		return fmt.Sprintf("%d s ago", int(d.Seconds()))
	case d < time.Hour:
		return fmt.Sprintf("%d min ago", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%d h ago", int(d.Hours()))
	}
	return fmt.Sprintf("%d days ago", int(d.Hours()/24))
}

// say tells people something that is not the result.
func (c *cli) say(text string) {
	if !c.json {
		fmt.Fprintln(c.stdout, text)
	}
}
