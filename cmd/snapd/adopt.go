package main

import (
	"fmt"

	"snapd/internal/agent"

	"github.com/spf13/cobra"
)

func (c *cli) adoptCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "adopt [REPOSITORY]",
		GroupID: "host",
		Short:   "Say that this host goes on with a repository",
		Long: `Say that this host is the one that goes on with a repository: after this
machine was renewed or moved, or it or its state directory was put back from a
backup. A ship asks for it when it finds points there that this host does not
know. Only one machine may ship to
a repository: a clone needs a signing key and a prefix of its own instead.`,
		Args: atMostOne("repository"),
		RunE: func(cmd *cobra.Command, args []string) error {
			a, err := c.agent(true)
			if err != nil {
				return err
			}
			repository := ""
			if len(args) == 1 {
				repository = args[0]
			}
			adopted, err := a.Adopt(cmd.Context(), repository)
			c.result = struct {
				Repositories []agent.Adopted `json:"repositories"`
			}{adopted}
			for _, r := range adopted {
				c.say(fmt.Sprintf("This host goes on with repository %s after point number %d.", r.Repository, r.Number))
			}
			return err
		},
	}
}
