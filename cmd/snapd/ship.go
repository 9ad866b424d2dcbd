package main

import (
	"snapd/internal/agent"

	"github.com/spf13/cobra"
)

func (c *cli) shipCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "ship [GROUP...]",
		GroupID: "daily",
		Short:   "Stream to the repositories what they lack",
		Long: `Stream to the repositories what they lack, oldest points first. A ship that
was interrupted goes on where it stopped. Nobody stands still for it.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			done, err := c.do(cmd.Context(), args, agent.Steps{Ship: true})
			if err == nil && len(done.Points) == 0 {
				c.say("Nothing to ship: the repositories have every restore point.")
			}
			return err
		},
	}
}
