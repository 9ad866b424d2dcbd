package main

import (
	"context"
	"fmt"
	"io"
	"runtime/debug"
	"slices"
	"time"

	"snapd/internal/advice"
	"snapd/internal/show"
	"snapd/internal/workload"

	"github.com/spf13/cobra"
)

// memoryLimit is what the garbage collector aims to stay below, in bytes; a
// ship of any length needs less than 256 MiB of resident memory.
const memoryLimit = 160 << 20

// garbagePercent is how much garbage is kept for each byte in use: with ten
// thousand points the default would take more memory than 128 MiB, and the time
// that it saves is little beside that of the requests.
const garbagePercent = 50

// cli is one call of the program.
type cli struct {
	now            func() time.Time
	args           []string
	stdout, stderr io.Writer
	bytes          io.Writer // standard output, for what is no text of ours: contents of files
	width          int       // of standard output's terminal, in characters; 0: it is none
	json           bool
	where          where
	screen         *screen
	result         any // what --json prints
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	debug.SetMemoryLimit(memoryLimit)
	debug.SetGCPercent(garbagePercent)
	return newCLI(args, stdout, stderr).run(ctx)
}

func newCLI(args []string, stdout, stderr io.Writer) *cli {
	s := newScreen(stderr, time.Now)
	c := &cli{now: time.Now, args: args, bytes: contents(s, stdout), stdout: results{s, show.Writer(stdout)}, stderr: results{s, show.Writer(stderr)}, width: terminalWidth(stdout), screen: s}
	c.where.looks = workload.NewLooks()
	return c
}

func (c *cli) run(ctx context.Context) int {
	root := c.root() //nolint:contextcheck // cobra hands ctx to the commands
	root.SetArgs(c.args)
	root.SetOut(c.stdout)
	root.SetErr(c.stderr)
	called, err := root.ExecuteContextC(ctx)
	c.screen.finish()
	return c.end(ctx, called, err)
}

func (c *cli) root() *cobra.Command {
	root := &cobra.Command{
		Use:   "snapd",
		Short: "Atomic snapshots of what containers write, shipped to S3 and restored",
		Long: `snapd finds which containers write where, stands them still for milliseconds
if that is needed, takes an atomic snapshot of everything they use, and streams
what changed to MinIO or any S3. It restores it, here or elsewhere.

A first time:  snapd init --repository s3://bucket/prefix --endpoint https://minio:9000 --kit kit.txt
               snapd doctor
               snapd run GROUP
To see it all: snapd demo`,
		SilenceErrors:              true,
		SilenceUsage:               true,
		DisableAutoGenTag:          true,
		SuggestionsMinimumDistance: 2,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return nil
			}
			return advice.With(advice.Usagef("there is no command %q", args[0]), "%s", suggestion(cmd, args[0]))
		},
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
		// Whatever a user does next after a kill sets things right.
		PersistentPreRun: func(cmd *cobra.Command, _ []string) { c.sweep(cmd) },
	}
	flags := root.PersistentFlags()
	flags.BoolVar(&c.json, "json", false, "print one JSON document on standard output")
	c.where.register(flags)
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error {
		c.json = c.json || slices.Contains(c.args, "--json") // it may stand after the flag that is wrong
		return advice.With(advice.In(advice.Usage, err), "see the flags of the command with --help")
	})
	root.AddGroup(
		&cobra.Group{ID: "daily", Title: "Every day:"},
		&cobra.Group{ID: "look", Title: "Look:"},
		&cobra.Group{ID: "back", Title: "Get it back:"},
		&cobra.Group{ID: "host", Title: "This host:"},
	)
	root.SetHelpCommandGroupID("host")
	root.SetCompletionCommandGroupID("host")
	root.AddCommand(
		c.snapshotCommand(), c.shipCommand(), c.runCommand(), c.pruneCommand(),
		c.dropCommand(), c.pinCommand(), c.unpinCommand(), c.acceptCommand(),
		c.listCommand(), c.showCommand(), c.statusCommand(),
		c.lsCommand(), c.catCommand(), c.cpCommand(), c.diffCommand(), c.mountCommand(),
		c.restoreCommand(), c.verifyCommand(), c.repairCommand(),
		c.initCommand(), c.doctorCommand(), c.adoptCommand(), c.scheduleCommand(), c.serveCommand(), c.thawCommand(), c.demoCommand(), c.versionCommand(), c.manCommand(),
		c.generateCommand(), c.reloadCommand(),
	)
	return root
}

func suggestion(cmd *cobra.Command, word string) string {
	if near := cmd.SuggestionsFor(word); len(near) > 0 {
		return fmt.Sprintf("write %s, if that is meant; snapd --help lists the commands", near[0])
	}
	return "see the commands with: snapd --help"
}
