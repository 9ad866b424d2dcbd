package main

import (
	"snapd/internal/agent"

	"github.com/spf13/cobra"
)

func (c *cli) shipCommand() *cobra.Command {
	full := false
	cmd := &cobra.Command{
		Use:     "ship [GROUP...]",
		GroupID: "daily",
		Short:   "Stream to the repositories what they lack, and heal what is damaged there",
		Long: `Stream to the repositories what they lack, oldest points first. A ship that
was interrupted goes on where it stopped. Nothing is frozen for it. What is
known to be damaged or lost in a repository is shipped anew first, as long as
its snapshot is still on this host; what cannot be healed so is said, and the
exit status is 4.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			done, err := c.do(cmd.Context(), args, agent.Steps{Ship: true, Full: full})
			if err == nil && len(done.Points) == 0 {
				c.say("Nothing to ship: the repositories have every restore point.")
			}
			return err
		},
	}
	cmd.Flags().BoolVar(&full, "full", false, "begin each dataset with a full stream, also when there is nothing new")
	return cmd
}
