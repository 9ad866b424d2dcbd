package main

import (
	"context"
	"os"

	"snapd/internal/agent"
	"snapd/internal/cgroup"
	"snapd/internal/freeze"
	"snapd/internal/workload"

	systemd "snapd/internal/host"

	"github.com/spf13/cobra"
)

// engine connects to the Docker engine of this host.
func engine(ctx context.Context) (*workload.Engine, error) { return workload.Connect(ctx, "") }

// guard is the life of a process that watches over another one's window.
func guard(ctx context.Context) int {
	return freeze.Guard(ctx, func(ctx context.Context, host string) (freeze.Engine, error) { return workload.Connect(ctx, host) })
}

// units looks systemd units up, and where their cgroups are in the v2 tree.
func units(ctx context.Context, names []string) ([]agent.Unit, error) {
	found, err := systemd.FindUnits(ctx, names)
	if err != nil {
		return nil, err
	}
	mount, mountErr := cgroup.Mount()
	var out []agent.Unit
	for _, u := range found {
		unit := agent.Unit{Name: u.Name, Active: u.Active, MainPID: u.MainPID, After: u.After, Watchdog: u.Watchdog}
		if mountErr == nil && u.Cgroup != "" {
			if unit.Dir, err = cgroup.Dir(mount, u.Cgroup); err != nil {
				return nil, err
			}
		}
		out = append(out, unit)
	}
	return out, nil
}

// sweep recovers what the window of a killed process left, before any command
// but two. Thaw says itself what it found. While systemd's generator runs, systemd
// starts no other program, an engine least of all. What cannot be recovered
// prevents no command that only looks; a snapshot refuses by itself.
func (c *cli) sweep(cmd *cobra.Command) {
	if os.Geteuid() != 0 || cmd.Name() == "thaw" || cmd.Name() == generateName {
		return
	}
	if err := agent.Sweep(cmd.Context(), c.where.runDir, engine, c.screen.report); err != nil {
		c.screen.report(agent.WarningOf("", err))
	}
}
