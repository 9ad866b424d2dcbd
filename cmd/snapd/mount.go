package main

import (
	"fmt"

	"snapd/internal/advice"

	"github.com/spf13/cobra"
)

func (c *cli) mountCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "mount POINT[:DATASET] DIR",
		GroupID: "back",
		Short:   "Mount a restore point at an empty folder, read-only",
		Long: `Mount a restore point at an empty folder: read-only, nosuid, nodev, noexec, until
umount DIR. No process stays behind. Of a point of several datasets the path of one is
named. A snapshot that is mounted stays until a prune after the umount.
` + aboutPlaces,
		Example: `  snapd mount latest:shop /mnt
  umount /mnt`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 2 {
				return advice.With(advice.Usagef("it takes a restore point and a folder"), "name both, such as: snapd mount latest:shop /mnt")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			a, err := c.agent(true)
			if err != nil {
				return err
			}
			shown, err := a.MountInside(cmd.Context(), args[0], args[1])
			if err != nil {
				return err
			}
			c.result = struct {
				Driver   string `json:"driver"`
				Dataset  string `json:"dataset"`
				Snapshot string `json:"snapshot"`
				Dir      string `json:"dir"`
			}{shown.Driver, shown.Dataset, shown.Snapshot, args[1]}
			c.say(fmt.Sprintf("mounted %s as it was at %s, read-only, until: umount %s", shown.Dataset, args[1], args[1]))
			return nil
		},
	}
}
