package main

import (
	"snapd/internal/agent"

	"github.com/spf13/cobra"
)

func (c *cli) restoreCommand() *cobra.Command {
	var o agent.RestoreOptions
	local := false
	cmd := &cobra.Command{
		Use:     "restore POINT --to DRIVER:TARGET",
		GroupID: "back",
		Short:   "Restore a point to a new place",
		Long: `Restore a point to a new place. POINT is an id, the beginning of one, latest,
or latest:GROUP. TARGET is a path that does not exist yet, on a filesystem of
the driver, such as btrfs:/srv/restored; of ZFS the name of a dataset, such as
zfs:tank/restored; of LVM lvm:vg/name, lvm:vg/pool/name, or lvm:vg to keep the
name. A point of several datasets goes below
it, each under what remains of its name. Nothing that exists is overwritten.
On ZFS, what an interrupted restore received is kept for a week, and the same
restore goes on with it.
With --check, ext4 or XFS on a restored logical volume is checked by its own
tool, on a copy that goes afterwards; what is damaged stays where it is.

On another host:  snapd --kit kit.txt restore latest --to btrfs:/srv/restored`,
		Args: exactlyOne("restore point", "latest:shop"),
		RunE: func(cmd *cobra.Command, args []string) error {
			a, err := c.agent(true)
			if err != nil {
				return err
			}
			o.Point = args[0]
			if local {
				o.Repository = agent.Local
			}
			restored, err := a.Restore(cmd.Context(), o)
			if restored == nil {
				restored = []agent.Restored{}
			}
			c.result = struct {
				Restored []agent.Restored `json:"restored"`
			}{restored}
			if !c.json {
				for _, r := range restored {
					c.print(2, "restored %s to %s:%s (%s in %.1f s)", r.Dataset, r.Driver, r.Target, size(r.Bytes), r.Seconds)
					if r.Checked != "" {
						c.print(2, "  its filesystem: %s", r.Checked)
					}
				}
			}
			return err
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.To, "to", "", "where to, such as btrfs:/srv/restored")
	f.StringVar(&o.Dataset, "dataset", "", "only this dataset of the point")
	f.BoolVar(&o.Beside, "beside", false, "if the target exists, use a new name next to it")
	f.BoolVar(&o.Replace, "replace", false, "if the target exists, keep it under another name and take its place")
	f.BoolVar(&o.Check, "check", false, "then check the filesystem on a logical volume (ext4, XFS)")
	f.BoolVar(&local, "local", false, "from this host's own snapshots, without a repository")
	return cmd
}
