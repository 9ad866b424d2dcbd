package main

import (
	"fmt"

	"snapd/internal/advice"
	"snapd/internal/agent"

	"github.com/spf13/cobra"
)

func (c *cli) cpCommand() *cobra.Command {
	replace := false
	cmd := &cobra.Command{
		Use:     "cp POINT:PATH... DEST",
		GroupID: "back",
		Short:   "Copy files out of a restore point",
		Long: `Copy files and folders out of a restore point: into DEST if that is a folder, else to
that name. Owners, rights, ACLs, attributes, times, holes and hard links are kept, inode
flags (chattr) are not. A copy has its name when it is whole. Nothing that exists is
overwritten. ` + aboutPlaces,
		Example: `  snapd cp latest:shop:/srv/shop/uploads /srv/shop/uploads.yesterday
  snapd cp --replace 06h1ab:/srv/shop/config.php /srv/shop`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) < 2 {
				return advice.With(advice.Usagef("it is not said what to copy, and where to"), "name both, such as: snapd cp latest:shop:/srv/shop/uploads /srv/shop/uploads.yesterday")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			a, err := c.agent(true)
			if err != nil {
				return err
			}
			last := len(args) - 1
			copied, err := a.CopyInside(cmd.Context(), args[:last], args[last], replace)
			if copied == nil {
				copied = []agent.CopiedInside{}
			}
			c.result = struct {
				Copied []agent.CopiedInside `json:"copied"`
			}{copied}
			for _, d := range copied {
				c.say(fmt.Sprintf("copied %s to %s (%s, %s)", d.From, d.To, plural(int(d.Files), "file", "files"), size(d.Bytes)))
				if d.Aside != "" {
					c.say("  what was there is now " + d.Aside)
				}
			}
			return err
		},
	}
	cmd.Flags().BoolVar(&replace, "replace", false, "if the name is taken, keep what is there under another name and take its place")
	return cmd
}
