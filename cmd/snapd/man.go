package main

import (
	"os"
	"time"

	"snapd/internal/advice"

	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"
)

// manCommand writes the manual pages from the same words as --help, so that
// they cannot differ. It is for building packages, and hidden.
func (c *cli) manCommand() *cobra.Command {
	return &cobra.Command{
		Use:    "man DIRECTORY",
		Short:  "Write the manual pages",
		Hidden: true,
		Args:   exactlyOne("directory", "bin/man"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := os.MkdirAll(args[0], 0o755); err != nil {
				return advice.In(advice.Usage, err)
			}
			epoch := time.Unix(0, 0).UTC() // reproducible
			return doc.GenManTree(cmd.Root(), &doc.GenManHeader{Section: "8", Source: "snapd " + version, Manual: "snapd", Date: &epoch}, args[0])
		},
	}
}
