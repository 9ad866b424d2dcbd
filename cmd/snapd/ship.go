package main

import "github.com/spf13/cobra"

func (c *cli) shipCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "ship [GROUP...]",
		GroupID: "daily",
		Short:   "Stream to the repositories what they lack",
		Long: `Stream to the repositories what they lack, oldest points first. A ship that
was interrupted goes on where it stopped. Nobody stands still for it.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			a, err := c.agent(false)
			if err != nil {
				return err
			}
			points, err := a.Ship(cmd.Context(), args)
			c.showPoints(points)
			if err == nil && len(points) == 0 {
				c.say("Nothing to ship: the repositories have every restore point.")
			}
			return partly(points, err)
		},
	}
}
