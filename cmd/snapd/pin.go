package main

import (
	"fmt"

	"github.com/spf13/cobra"
)

func (c *cli) pinCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "pin POINT...",
		GroupID: "daily",
		Short:   "Keep restore points in the repositories until they are unpinned",
		Long: `Keep restore points in the repositories that have them, whatever retention says,
until they are unpinned. It is signed, and counts for every host that prunes there.`,
		Args: atLeastOnePoint,
		RunE: func(cmd *cobra.Command, args []string) error {
			a, err := c.agent(false)
			if err != nil {
				return err
			}
			pinned, err := a.Pin(cmd.Context(), args)
			c.result = pinned
			for _, p := range pinned.Pinned {
				c.say(fmt.Sprintf("pinned %s in %s", p.ID, p.Repository))
			}
			return err
		},
	}
}
