package main

import (
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"
)

// version is the release this tree becomes.
const version = "0.1.0-dev"

func (c *cli) versionCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "version",
		GroupID: "host",
		Short:   "Print the version",
		Args:    noArguments,
		RunE: func(*cobra.Command, []string) error {
			commit := "unknown"
			if info, ok := debug.ReadBuildInfo(); ok {
				for _, s := range info.Settings {
					if s.Key == "vcs.revision" {
						commit = s.Value
					}
				}
			}
			c.result = map[string]string{"version": version, "commit": commit, "go": runtime.Version()}
			c.say(fmt.Sprintf("snapd %s (commit %s, %s)", version, commit, runtime.Version()))
			return nil
		},
	}
}
