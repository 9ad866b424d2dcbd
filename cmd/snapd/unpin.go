package main

import (
	"fmt"

	"github.com/spf13/cobra"
)

func (c *cli) unpinCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "unpin POINT...",
		GroupID: "daily",
		Short:   "Let retention decide on restore points again",
		Args:    atLeastOnePoint,
		RunE: func(cmd *cobra.Command, args []string) error {
			a, err := c.agent(false)
			if err != nil {
				return err
			}
			pinned, err := a.Unpin(cmd.Context(), args)
			c.result = pinned
			for _, p := range pinned.Unpinned {
				c.say(fmt.Sprintf("unpinned %s in %s", p.ID, p.Repository))
			}
			if err == nil && len(pinned.Unpinned) == 0 {
				c.say("None of these is pinned.")
			}
			return err
		},
	}
}
