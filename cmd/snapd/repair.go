package main

import (
	"fmt"

	"snapd/internal/agent"

	"github.com/spf13/cobra"
)

func (c *cli) repairCommand() *cobra.Command {
	var o agent.RepairOptions
	cmd := &cobra.Command{
		Use:     "repair [REPOSITORY]",
		GroupID: "back",
		Short:   "Ship anew what is damaged or lost, and settle what is unexplained",
		Long: `Do on purpose what a ship does by itself: ship damaged streams anew, and points
that were lost, as far as their snapshots are still on this host. Each step is
said before it is done; --plan only says them. Events and the description of a
repository are put back as this host has read them.

Two things are only done when they are asked for. --accept-loss writes down, signed,
that points are gone for good which a request by name does not find, and that an
event cannot be read any more which this host has never read; until then nothing is
removed from the repository. --remove-junk deletes objects that do not
verify and that no record needs. Exit status 4 means that something is left.`,
		Args: atMostOne("repository"),
		RunE: func(cmd *cobra.Command, args []string) error {
			a, err := c.agent(false)
			if err != nil {
				return err
			}
			if len(args) == 1 {
				o.Repository = args[0]
			}
			o.Say = func(s agent.Repair) { c.say(repairLine(s)) }
			repaired, err := a.Repair(cmd.Context(), o)
			c.result = repaired
			if c.json {
				return err
			}
			for _, id := range repaired.Healed {
				c.print(2, "healed %s", id)
			}
			switch {
			case err != nil:
			case len(repaired.Steps) == 0:
				c.say("Nothing to repair.")
			case o.Plan:
				c.say("Nothing was done: this was the plan.")
			}
			return err
		},
	}
	cmd.Flags().BoolVar(&o.Plan, "plan", false, "only say what would be done")
	cmd.Flags().BoolVar(&o.AcceptLoss, "accept-loss", false, "write down which points are gone for good")
	cmd.Flags().BoolVar(&o.RemoveJunk, "remove-junk", false, "delete objects that do not verify and that nothing needs")
	return cmd
}

// repairLine is one step for people.
func repairLine(s agent.Repair) string {
	flag := map[agent.RepairKind]string{agent.RepairAccept: "--accept-loss", agent.RepairRemove: "--remove-junk"}[s.Action]
	line := fmt.Sprintf("%-6s %s: ", s.Action, s.Repository)
	if s.Object != "" {
		line += s.Object + ": "
	}
	line += s.Text
	if len(s.Points) > 0 {
		line += " (points " + joinIDs(s.Points) + ")"
	}
	if flag != "" && !s.Allowed {
		line += " [only with " + flag + "]"
	}
	return line
}
