package main

import (
	"snapd/internal/agent"

	"github.com/spf13/cobra"
)

func (c *cli) runCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "run GROUP...",
		GroupID: "daily",
		Short:   "Snapshot, ship, prune: what a timer calls",
		Args:    atLeastOneGroup,
		RunE: func(cmd *cobra.Command, args []string) error {
			_, err := c.do(cmd.Context(), args, agent.Steps{Snapshot: true, Ship: true, Prune: true})
			return err
		},
	}
}
