package main

import (
	"snapd/internal/agent"

	"github.com/spf13/cobra"
)

func (c *cli) runCommand() *cobra.Command {
	later := false
	cmd := &cobra.Command{
		Use:     "run GROUP...",
		GroupID: "daily",
		Short:   "Snapshot, ship, prune: what a timer does",
		Args:    atLeastOneGroup,
		RunE: func(cmd *cobra.Command, args []string) error {
			_, err := c.do(cmd.Context(), args, agent.Steps{Snapshot: !later, Ship: true, Prune: true})
			return err
		},
	}
	cmd.Flags().BoolVar(&later, "no-snapshot", false, "only ship and prune, in a unit of their own")
	return cmd
}
