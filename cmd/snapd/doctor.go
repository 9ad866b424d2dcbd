package main

import (
	"cmp"
	"slices"
	"strings"

	"snapd/internal/doctor"

	"github.com/spf13/cobra"
)

func (c *cli) doctorCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "doctor",
		GroupID: "host",
		Short:   "Check this host, its groups and repositories, and say what to do",
		Args:    noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c.where.storages = agentStorages(cmd.Context())
			a, err := c.agent(false)
			if err != nil {
				return err
			}
			checks, err := promptly(cmd.Context(), func() ([]doctor.Check, error) {
				return doctor.Run(cmd.Context(), doctor.Options{Agent: a, Bucket: bucket, Units: wanted(a.Config)}), nil
			})
			if err != nil {
				return err
			}
			for i, k := range checks {
				if k.Err != nil {
					checks[i].Do = whatToDo(k.Err)
				}
			}
			c.result = struct {
				Checks []doctor.Check `json:"checks"`
			}{checks}
			if !c.json {
				c.showChecks(checks)
			}
			return doctor.Failed(checks)
		},
	}
}

// showChecks prints a line a fact, the gravest first. What to do stands once
// below facts that follow each other.
func (c *cli) showChecks(checks []doctor.Check) {
	const indent = 6 + 21 // of the third column
	rank := map[doctor.Level]int{doctor.Fail: 0, doctor.Warn: 1, doctor.OK: 2}
	sorted := slices.SortedStableFunc(slices.Values(named(checks)), func(a, b doctor.Check) int { return cmp.Compare(rank[a.Level], rank[b.Level]) })
	for i, k := range sorted {
		c.print(indent, "%-4s  %-20s %s", strings.ToUpper(string(k.Level)), k.Check, joined(k.Why))
		if same := i+1 < len(sorted) && sorted[i+1].Check == k.Check && sorted[i+1].Do == k.Do; k.Do != "" && !same {
			c.print(indent+4, "      %-20s do: %s", "", k.Do)
		}
	}
}

// named are checks whose names say all: one of a part of what was checked before
// begins with spaces, and may be printed elsewhere.
func named(checks []doctor.Check) []doctor.Check {
	out, whole := slices.Clone(checks), ""
	for i, k := range checks {
		if part, ok := strings.CutPrefix(k.Check, "  "); ok {
			out[i].Check = whole + ": " + part
		} else {
			whole = strings.TrimPrefix(k.Check, "repository ")
		}
	}
	return out
}
