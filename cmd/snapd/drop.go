package main

import (
	"slices"

	"snapd/internal/advice"
	"snapd/internal/agent"

	"github.com/spf13/cobra"
)

func (c *cli) dropCommand() *cobra.Command {
	var o agent.DropOptions
	cmd := &cobra.Command{
		Use:     "drop POINT...",
		GroupID: "daily",
		Short:   "Remove single restore points, here and in the repositories",
		Long: `Remove the restore points that are named, from the repositories and from this
host, whatever retention says. What other points build on stays. A signed record
of the removal stays in the repository. Refused are a point that is pinned, and,
without --last, the last one of its group in a repository that can be restored. Nothing is removed unless every
repository answers.`,
		Args: atLeastOnePoint,
		RunE: func(cmd *cobra.Command, args []string) error {
			a, err := c.agent(false)
			if err != nil {
				return err
			}
			o.Points = args
			dropped, err := a.Drop(cmd.Context(), o)
			c.result = dropped
			if c.json {
				return err
			}
			if len(dropped.Drop)+len(dropped.Keep) > 0 {
				c.table([]string{"", "POINT", "WHERE", "REASON"}, slices.Concat(verdicts("keep", dropped.Keep), verdicts("drop", dropped.Drop)))
			}
			switch {
			case err != nil:
			case o.DryRun:
				c.print(2, "Nothing was removed: this was a dry run. It would free %s.", size(dropped.Bytes))
			default:
				c.print(2, "freed %s", size(dropped.Bytes))
			}
			return err
		},
	}
	cmd.Flags().BoolVar(&o.Last, "last", false, "also the last point of a group")
	cmd.Flags().BoolVar(&o.DryRun, "dry-run", false, "only say what would go")
	return cmd
}

func atLeastOnePoint(_ *cobra.Command, args []string) error {
	if len(args) == 0 {
		return advice.With(advice.Usagef("no restore point is named"), "name one by its id, as snapd list shows it")
	}
	return nil
}
