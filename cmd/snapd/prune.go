package main

import (
	"slices"

	"snapd/internal/agent"

	"github.com/spf13/cobra"
)

func (c *cli) pruneCommand() *cobra.Command {
	dryRun := false
	cmd := &cobra.Command{
		Use:     "prune [GROUP...]",
		GroupID: "daily",
		Short:   "Apply retention, with a reason for each point",
		Long: `Apply retention to the points in the repositories (keep) and to the snapshots
of this host (keep-local), with a reason for each. A stream on which another
kept point builds stays, however old it is. The newest point always stays.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			a, done, err := c.calls(cmd.Context(), true)
			if err != nil {
				return err
			}
			defer done()
			pruned, err := a.Prune(cmd.Context(), args, dryRun)
			c.result = pruned
			if !c.json && len(pruned.Keep)+len(pruned.Drop) > 0 {
				c.table([]string{"", "POINT", "WHERE", "REASON"}, slices.Concat(verdicts("keep", pruned.Keep), verdicts("drop", pruned.Drop)))
			}
			if dryRun && err == nil {
				c.say("Nothing was removed: this was a dry run.")
			}
			return err
		},
	}
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "only say what would go")
	return cmd
}

func verdicts(word string, list []agent.Verdict) [][]string {
	rows := make([][]string, len(list))
	for i, v := range list {
		rows[i] = []string{word, string(v.ID), v.Where, v.Reason}
	}
	return rows
}
