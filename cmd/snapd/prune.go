package main

import (
	"context"
	"fmt"
	"slices"

	"snapd/internal/advice"
	"snapd/internal/agent"
	"snapd/internal/config"
	"snapd/internal/retain"

	"github.com/spf13/cobra"
)

func (c *cli) pruneCommand() *cobra.Command {
	o, former, keep := agent.PruneOptions{}, "", ""
	cmd := &cobra.Command{
		Use:     "prune [GROUP...]",
		GroupID: "daily",
		Short:   "Apply retention, with a reason for each point",
		Long: `Apply retention to the points in the repositories (keep) and to the snapshots
of this host (keep-local), with a reason for each. A stream on which another
kept point builds stays, however old it is. The newest point always stays, and
so does a pinned one. What goes is written into the repository first, signed;
while anything there is not explained, nothing is deleted.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			o.Groups = args
			if err := formerGroup(&o, former, keep); err != nil {
				return err
			}
			pruned, err := c.prune(cmd.Context(), o)
			c.result = pruned
			if !c.json && len(pruned.Keep)+len(pruned.Drop) > 0 {
				c.table([]string{"", "POINT", "WHERE", "REASON"}, slices.Concat(verdicts("keep", pruned.Keep), verdicts("drop", pruned.Drop)))
			}
			for _, f := range pruned.Freed {
				c.say(freed(f, o.DryRun))
			}
			if o.DryRun && err == nil {
				c.say("Nothing was removed: this was a dry run.")
			}
			return err
		},
	}
	cmd.Flags().BoolVar(&o.DryRun, "dry-run", false, "only say what would go")
	cmd.Flags().BoolVar(&o.Now, "now", false, "also remove what uploads that were given up left behind: only when nothing else is shipping there")
	cmd.Flags().StringVar(&former, "group", "", "prune a `group` that is not configured any more; --keep says what stays")
	cmd.Flags().StringVar(&keep, "keep", "", "the `policy` of that group, such as \"24 hourly, 7 daily\"")
	return cmd
}

// prune calls the agent, except for what only a person can say.
func (c *cli) prune(ctx context.Context, o agent.PruneOptions) (agent.Pruned, error) {
	if o.Now || o.Former != "" {
		a, err := c.agent(true)
		if err != nil {
			return agent.Pruned{}, err
		}
		return a.PruneAs(ctx, o)
	}
	a, done, err := c.calls(ctx, true)
	if err != nil {
		return agent.Pruned{}, err
	}
	defer done()
	return a.Prune(ctx, o.Groups, o.DryRun)
}

// formerGroup takes the two flags of a group that is not configured any more.
func formerGroup(o *agent.PruneOptions, name, keep string) error {
	switch {
	case name == "" && keep == "":
		return nil
	case name == "":
		return advice.With(advice.Usagef("a policy is given, and no group that is not configured any more"), "name it with --group; the policy of a configured group is in its configuration")
	case keep == "":
		return advice.With(advice.Usagef("group %s has no policy any more", name), `say what stays of it, such as --keep "7 daily"`)
	case len(o.Groups) > 0:
		return advice.With(advice.Usagef("a group that is not configured any more is pruned by itself"), "leave out %q", o.Groups[0])
	}
	var policy config.Keep
	if err := policy.UnmarshalText([]byte(keep)); err != nil {
		return advice.In(advice.Usage, err)
	}
	o.Former, o.Keep = name, retain.Policy(policy)
	return nil
}

// freed says what a prune frees.
func freed(f agent.Freed, dryRun bool) string {
	word := "freed"
	if dryRun {
		word = "would free"
	}
	text := fmt.Sprintf("Repository %s: %s %s in %s.", f.Repository, word, size(f.Bytes), plural(f.Objects, "object", "objects"))
	if f.Orphans > 0 {
		text += fmt.Sprintf(" %s of it, in %s, belonged to no stream.", size(f.OrphanBytes), plural(f.Orphans, "object", "objects"))
	}
	return text
}

func verdicts(word string, list []agent.Verdict) [][]string {
	rows := make([][]string, len(list))
	for i, v := range list {
		rows[i] = []string{word, string(v.ID), v.Where, v.Reason}
	}
	return rows
}
