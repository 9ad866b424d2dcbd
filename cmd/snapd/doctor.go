package main

import (
	"fmt"

	"snapd/internal/agent"

	"github.com/spf13/cobra"
)

func (c *cli) doctorCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "doctor",
		GroupID: "host",
		Short:   "Check this host, its groups and repositories, and say what to mend",
		Args:    noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c.where.storages = agentStorages(cmd.Context())
			a, err := c.agent(false)
			if err != nil {
				return err
			}
			checks := append(a.Doctor(cmd.Context(), probe), c.checkService(cmd.Context(), a)...)
			for i, k := range checks {
				if k.Err != nil {
					checks[i].Do = whatToDo(k.Err)
				}
			}
			c.result = struct {
				Checks []agent.Check `json:"checks"`
			}{checks}
			if !c.json {
				for _, k := range checks {
					c.showCheck(k)
				}
			}
			return agent.Failed(checks)
		},
	}
}

func (c *cli) showCheck(k agent.Check) {
	mark := "ok  "
	if !k.OK {
		mark = "MEND"
	}
	fmt.Fprintf(c.stdout, "%s  %-20s %s\n", mark, printable(k.Check), printable(k.Why))
	if k.Do != "" {
		fmt.Fprintf(c.stdout, "      %-20s do: %s\n", "", printable(k.Do))
	}
}
