package main

import (
	"context"
	"fmt"
	"os"

	"snapd/internal/agent"
	"snapd/internal/config"
	"snapd/internal/demo"
	"snapd/internal/ship"

	"github.com/spf13/cobra"
)

func (c *cli) demoCommand() *cobra.Command {
	files := 0
	cmd := &cobra.Command{
		Use:     "demo",
		GroupID: "host",
		Short:   "Show the main job on a Btrfs of its own, and leave nothing behind",
		Long: `Show the main job on a Btrfs of its own: a container that writes all the time,
two restore points, a destroyed volume, and a restore that is compared to the
last byte. With SNAPD_DEMO_MINIO=FILE it starts that MinIO server and ships
there, else to a directory. It takes what is on the host (dockerd or a running
engine, btrfs-progs, busybox-static); "make demo" installs them.`,
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if os.Geteuid() != 0 {
				return agent.ErrNotRoot
			}
			result, err := demo.Run(cmd.Context(), demo.Options{
				Say:     func(format string, args ...any) { c.say(fmt.Sprintf(format, args...)) },
				MinIO:   os.Getenv("SNAPD_DEMO_MINIO"),
				Files:   files,
				Drivers: c.where.drivers(),
				Store: func(_ context.Context, r config.Repository) (ship.Store, error) {
					return storeOfInit(r, c.screen.report)
				},
				Open: c.where.open,
			})
			c.result = result
			return err
		},
	}
	cmd.Flags().IntVar(&files, "files", 2000, "how many files of 100 KiB the volume holds, at least 100")
	return cmd
}
