package main

import (
	"snapd/internal/advice"

	"github.com/spf13/cobra"
)

func (c *cli) catCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "cat POINT:PATH",
		GroupID: "back",
		Short:   "Print a file of a restore point",
		Long: `Print a file of a restore point, byte for byte; on a terminal, what that would obey
is escaped. ` + aboutPlaces,
		Example: `  snapd cat latest:shop:/srv/shop/config.php >config.php`,
		Args:    exactlyOne("file of a restore point", "latest:shop:/srv/shop/config.php"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if c.json {
				return advice.With(advice.Usagef("a file is printed as it is, and not as a JSON document"), "leave --json out")
			}
			a, err := c.agent(true)
			if err != nil {
				return err
			}
			return a.Cat(cmd.Context(), args[0], c.bytes)
		},
	}
}
