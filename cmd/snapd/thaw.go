package main

import (
	"github.com/spf13/cobra"
)

func (c *cli) thawCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "thaw",
		GroupID: "host",
		Short:   "Recover what a killed snapd left frozen, suspended or locked, and run the hooks it owes",
		Args:    noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			a, err := c.agent(true)
			if err != nil {
				return err
			}
			thawed, err := a.Thaw(cmd.Context())
			c.result = struct {
				Thawed []string `json:"thawed"`
			}{thawed}
			if !c.json {
				for _, t := range thawed {
					c.print(2, "recovered: %s", t)
				}
				if len(thawed) == 0 && err == nil {
					c.print(2, "Nothing was left frozen, suspended or locked.")
				}
			}
			return err
		},
	}
}
