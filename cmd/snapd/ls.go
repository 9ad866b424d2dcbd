package main

import (
	"fmt"
	"strconv"

	"snapd/internal/agent"
	"snapd/internal/inside"

	"github.com/spf13/cobra"
)

// aboutPlaces is how a place in a point is written, for the help of all commands that
// take one.
const aboutPlaces = `POINT is an id, the beginning of one, latest, or latest:GROUP. PATH is a path of the
host, such as /srv/shop/db/file, as it was when the point was taken; or one in the
only dataset of the point, or one that begins with the name of a dataset. It is read
from this host's own snapshot, as root, and nothing is restored. A symbolic link that
leads out of its dataset is not followed.`

func (c *cli) lsCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "ls POINT[:PATH]",
		GroupID: "back",
		Short:   "List what is in a restore point",
		Long: `List what is in a restore point: of a folder what is in it, of a point of several
datasets where these lay. ` + aboutPlaces,
		Example: `  snapd ls latest:shop
  snapd ls latest:shop:/srv/shop/db`,
		Args: exactlyOne("restore point", "latest:shop:/srv/shop"),
		RunE: func(cmd *cobra.Command, args []string) error {
			a, err := c.agent(true)
			if err != nil {
				return err
			}
			found, err := a.ListInside(cmd.Context(), args[0])
			if err != nil && len(found.Entries) == 0 {
				return err
			}
			c.result = found
			if !c.json {
				c.showListing(found)
			}
			return err
		},
	}
}

func (c *cli) showListing(l agent.Listing) {
	for _, d := range l.Datasets {
		c.print(2, "%s:%s", l.Point, d.Path)
	}
	owner, wide := 0, 0
	for _, e := range l.Entries {
		owner, wide = max(owner, len(ownerOf(e))), max(wide, len(sizeOf(e)))
	}
	for _, e := range l.Entries {
		line := fmt.Sprintf("%s  %-*s  %*s  %s  %s", e.Mode, owner, ownerOf(e), wide, sizeOf(e), e.Modified.Local().Format("2006-01-02 15:04"), e.Name)
		switch e.Kind {
		case inside.Folder:
			line += "/"
		case inside.Link:
			line += " -> " + e.Target
		case inside.Gone:
			line += "/ (not in this point: a dataset of its own)"
		}
		c.print(2, "%s", line)
	}
}

// ownerOf is in numbers: what they are called may have changed since.
func ownerOf(e inside.Entry) string {
	return strconv.FormatUint(uint64(e.UID), 10) + ":" + strconv.FormatUint(uint64(e.GID), 10)
}

func sizeOf(e inside.Entry) string {
	if e.Kind != inside.File {
		return "-"
	}
	return size(e.Size)
}
