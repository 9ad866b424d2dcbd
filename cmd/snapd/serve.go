package main

import (
	"time"

	"snapd/internal/advice"
	"snapd/internal/daemon"

	systemd "snapd/internal/host"

	"github.com/spf13/cobra"
)

func (c *cli) serveCommand() *cobra.Command {
	idle := time.Minute
	cmd := &cobra.Command{
		Use:     "serve",
		GroupID: "host",
		Short:   "Be the agent that systemd starts through snapd-agent.socket",
		Long: `Be the agent: answer the calls of other snapd commands on the socket that
systemd passed in, and end when no call has come for a while. systemd starts it
again with the next call. There is no need to call this by hand.`,
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			l, gid, err := systemd.Listener()
			if err != nil {
				return advice.In(advice.Usage, err)
			}
			w := &c.where
			return daemon.New(daemon.Options{
				File: w.file(), Load: w.load, Agent: w.options,
				Group: gid, State: w.state, Idle: idle, Now: time.Now, Log: systemd.Logger(c.stderr),
			}).Serve(cmd.Context(), l)
		},
	}
	cmd.Flags().DurationVar(&idle, "idle", idle, "end when no call has come for so long")
	return cmd
}
