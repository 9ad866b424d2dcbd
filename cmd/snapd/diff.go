package main

import (
	"fmt"
	"strings"

	"snapd/internal/advice"
	"snapd/internal/agent"
	"snapd/internal/inside"

	"github.com/spf13/cobra"
)

// differencesMost is how many differences a JSON document has: it is made in memory.
const differencesMost = 100_000

// differences are what diff found, for its document.
type differences struct {
	Differences []inside.Difference `json:"differences"`
	Added       int                 `json:"added"`
	Removed     int                 `json:"removed"`
	Changed     int                 `json:"changed"`
	Rights      int                 `json:"rights"`
	LeftOut     int                 `json:"left_out,omitempty"` // counted, and not among Differences
}

func (c *cli) diffCommand() *cobra.Command {
	text := false
	cmd := &cobra.Command{
		Use:     "diff POINT[:PATH] [POINT|now]",
		GroupID: "back",
		Short:   "Compare a restore point with another one, or with now",
		Long: `Compare a restore point, or what is at a path in it, with another point or with what is
there now: which files were added (+), removed (-), changed (~), or got another owner or mode
(=), with their sizes; a folder that is in one of them alone is one line. ` + aboutPlaces,
		Example: `  snapd diff latest:shop
  snapd diff --text 06h1ab:/srv/shop/config.php latest:shop`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) < 1 || len(args) > 2 {
				return advice.With(advice.Usagef("it takes one restore point or two"), "name one, such as latest:shop, to compare it with now")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			a, err := c.agent(true)
			if err != nil {
				return err
			}
			found := &differences{Differences: []inside.Difference{}}
			c.result = found
			err = a.DiffInside(cmd.Context(), args[0], append(args, agent.Now)[1], text, func(d inside.Difference) error {
				c.showDifference(found, d)
				return nil
			})
			if err == nil {
				c.say(fmt.Sprintf("%d added, %d removed, %d changed, %d with another owner or mode", found.Added, found.Removed, found.Changed, found.Rights))
			}
			return err
		},
	}
	cmd.Flags().BoolVar(&text, "text", false, "show what changed in text files (up to 1 MiB)")
	return cmd
}

func (c *cli) showDifference(all *differences, d inside.Difference) {
	sign, sizes := "", ""
	switch d.What {
	case inside.Added:
		all.Added++
		sign, sizes = "+", size(d.Is)
	case inside.Removed:
		all.Removed++
		sign, sizes = "-", size(d.Was)
	case inside.Changed:
		all.Changed++
		sign, sizes = "~", size(d.Was)+" -> "+size(d.Is)
	default:
		all.Rights++
		sign, sizes = "=", size(d.Is)
	}
	if c.json {
		if len(all.Differences) == differencesMost {
			all.LeftOut++
			return
		}
		all.Differences = append(all.Differences, d)
		return
	}
	switch {
	case d.Kind == inside.Folder && d.Files > 0:
		c.print(4, "%s %s/ (%s, %s)", sign, d.Path, plural(int(d.Files), "file", "files"), sizes)
	case d.Kind == inside.Folder:
		c.print(4, "%s %s/", sign, d.Path)
	case d.Kind == inside.File:
		c.print(4, "%s %s (%s)", sign, d.Path, sizes)
	default:
		c.print(4, "%s %s", sign, d.Path)
	}
	for line := range strings.Lines(d.Text) {
		c.print(4, "    %s", strings.TrimSuffix(line, "\n"))
	}
}
