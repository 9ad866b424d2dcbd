package main

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"

	"snapd/internal/advice"
	"snapd/internal/agent"
	"snapd/internal/api"
	"snapd/internal/config"

	systemd "snapd/internal/host"

	"github.com/spf13/cobra"
)

// timersName keeps, in the run directory, what the last good configuration
// asked of systemd.
const timersName = "timers.json"

// generateName is the command that systemd calls as a generator.
const generateName = "generate"

func (c *cli) scheduleCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "schedule",
		GroupID: "host",
		Short:   "Make systemd's timers those of the configuration and the labels",
		Long: `Make systemd's timers those that the configuration and the labels of containers
ask for, and start the agent if snapshots live that it has to watch. A small timer
calls it, and the agent whenever it sees other labels; by hand it is useful after
the configuration was edited. systemctl list-timers shows what came of it.`,
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			a, err := c.agent(true)
			if err != nil {
				return err
			}
			changes, err := c.schedule(cmd.Context(), a)
			c.result = struct {
				Changes systemd.Changes `json:"changes"`
			}{changes}
			for _, did := range changes {
				c.say(did)
			}
			if err == nil && len(changes) == 0 {
				c.say("Nothing to change: systemctl list-timers 'snapd-agent-*' shows the timers.")
			}
			return err
		},
	}
}

func (c *cli) schedule(ctx context.Context, a *agent.Agent) (systemd.Changes, error) {
	u, err := systemd.OpenUnits(ctx)
	if err != nil {
		return systemd.Changes{}, advice.With(err, "call snapd run GROUP from cron, or from what starts programs here")
	}
	defer u.Close()
	// Snapshots that have to be watched outlive a boot, and a killed agent.
	var watching error
	if a.Live() {
		watching = u.Start(ctx, systemd.AgentService)
	}
	all, mounts, err := a.Schedules(ctx)
	if err != nil {
		return systemd.Changes{}, errors.Join(err, watching)
	}
	var labels []systemd.Timer
	for _, s := range all {
		if s.FromLabels {
			labels = append(labels, systemd.Timer{Group: s.Group, Calendar: s.Calendar})
		}
	}
	changes, err := u.Apply(ctx, wanted(a.Config), labels, mounts, filepath.Join(c.where.runDir, timersName), c.retire)
	if changes == nil {
		changes = systemd.Changes{}
	}
	return changes, errors.Join(err, watching)
}

// retire tells the agent that runs to make way for the next one when it can. One that
// has ended meanwhile has.
func (c *cli) retire(ctx context.Context) error {
	client, err := api.Connect(ctx, filepath.Join(c.where.runDir, socketName), nil)
	if errors.Is(err, api.ErrNoAgent) {
		return nil
	}
	if err != nil {
		return err
	}
	return errors.Join(client.Retire(ctx), client.Close())
}

// wanted is what a configuration asks of systemd. It is the same for the
// generator, which can ask no other program, and for commands that check its
// work.
func wanted(conf *config.Config) systemd.Wanted {
	w := systemd.Wanted{Paths: map[string][]string{}}
	for name, g := range conf.Groups {
		w.Paths[name] = g.Paths
		if g.Schedule != "" {
			w.Timers = append(w.Timers, systemd.Timer{Group: name, Calendar: string(g.Schedule), Source: conf.File})
		}
	}
	for _, r := range conf.Repositories {
		if u, err := url.Parse(r.URL); err == nil && u.Scheme == "file" {
			w.Writable = append(w.Writable, filepath.Clean(u.Path))
		}
	}
	return w
}

// generateCommand is systemd's generator: see systemd.generator(7). It runs
// before anything else, asks no other program, and writes into its directory
// only. What is wrong it says in the kernel's log too, since no user sees what it
// prints.
func (c *cli) generateCommand() *cobra.Command {
	log := ""
	cmd := &cobra.Command{
		Use:    generateName + " NORMAL [EARLY LATE]",
		Short:  "Write the units of the configuration, for systemd",
		Hidden: true,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 && len(args) != 3 {
				return advice.With(advice.Usagef("systemd calls it with three directories"), "name one directory, or three")
			}
			return nil
		},
		RunE: func(_ *cobra.Command, args []string) error {
			conf, wrong := c.where.load()
			var w systemd.Wanted
			if wrong == nil {
				w = wanted(conf)
			} else {
				last, err := systemd.LastGood(filepath.Join(c.where.runDir, timersName))
				wrong = errors.Join(wrong, err)
				if w = last; len(last.Timers) > 0 {
					wrong = fmt.Errorf("%w; the timers of the last good one stay", wrong)
				}
			}
			err := errors.Join(wrong, systemd.Generate(args[0], w))
			if err != nil && log != "" {
				_ = systemd.LogEarly(log, "snapd-agent-generator", inOneLine(err)) // it is printed as well
			}
			return err
		},
	}
	cmd.Flags().StringVar(&log, "log", "", "kernel log to write errors to as well")
	return cmd
}

// reloadCommand is what systemctl reload runs: unlike a signal, it can fail.
func (c *cli) reloadCommand() *cobra.Command {
	return &cobra.Command{
		Use:    "reload",
		Short:  "Have the agent read its configuration anew",
		Hidden: true,
		Args:   noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			client, err := api.Connect(cmd.Context(), filepath.Join(c.where.runDir, socketName), c.screen.report)
			if errors.Is(err, os.ErrPermission) {
				return agent.ErrNotRoot
			}
			if err != nil {
				return err
			}
			return errors.Join(client.Reload(cmd.Context()), client.Close())
		},
	}
}
