package main

import (
	"fmt"

	"snapd/internal/agent"

	"github.com/spf13/cobra"
)

func (c *cli) acceptCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "accept GROUP...",
		GroupID: "daily",
		Short:   "Take a group as it is now for what it is to be",
		Long: `Take the newest restore point of each group for what the group is to be. A
point is marked changed while it lacks what the points before it had, or has it
elsewhere, made anew, or empty: then a run ends with status 3, and retention keeps
the last points that have it. After accept neither is so any more. Nothing is
removed by accept itself; the next prune may remove what a dataset that is gone had
kept. Pin its last point, which accept names, to keep that.`,
		Args: atLeastOneGroup,
		RunE: func(cmd *cobra.Command, args []string) error {
			a, err := c.agent(true)
			if err != nil {
				return err
			}
			accepted, err := a.Accept(cmd.Context(), args)
			c.result = struct {
				Accepted []agent.Accepted `json:"accepted"`
			}{accepted}
			for _, x := range accepted {
				c.showAccepted(x)
			}
			return err
		},
	}
}

func (c *cli) showAccepted(x agent.Accepted) {
	c.say(fmt.Sprintf("accepted group %s as it is in point %s", x.Group, x.Point))
	for _, ch := range x.Changed {
		c.say("  " + ch.String())
	}
	if x.Before != "" {
		c.say(fmt.Sprintf("  point %s is the last one before that: snapd pin %s keeps it", x.Before, x.Before))
	}
	for _, g := range x.Gone {
		c.say(fmt.Sprintf("  %s %s is kept for its own sake no longer: the last point that has it is %s", g.Driver, g.Dataset, g.Last))
	}
}
