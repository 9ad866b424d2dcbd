package main

import (
	"fmt"
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
				for _, k := range checks {
					c.showCheck(k)
				}
			}
			return doctor.Failed(checks)
		},
	}
}

func (c *cli) showCheck(k doctor.Check) {
	fmt.Fprintf(c.stdout, "%-4s  %-20s %s\n", strings.ToUpper(string(k.Level)), printable(k.Check), printable(k.Why))
	if k.Do != "" {
		fmt.Fprintf(c.stdout, "      %-20s do: %s\n", "", printable(k.Do))
	}
}
