package main

import (
	"fmt"
	"strings"

	"snapd/internal/freeze"
	"snapd/internal/point"

	"github.com/spf13/cobra"
)

func (c *cli) showCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "show POINT",
		GroupID: "look",
		Short:   "Show one restore point",
		Long:    "Show one restore point: its id, the beginning of one, latest, or latest:GROUP.",
		Args:    exactlyOne("restore point", "latest:shop"),
		RunE: func(cmd *cobra.Command, args []string) error {
			a, done, err := c.calls(cmd.Context(), false)
			if err != nil {
				return err
			}
			defer done()
			p, err := a.Show(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			p = shown(p)
			c.result = p
			if !c.json {
				c.showPoint(p)
			}
			return nil
		},
	}
}

func (c *cli) showPoint(p point.Point) {
	line := func(name, format string, args ...any) {
		fmt.Fprintf(c.stdout, "%-12s %s\n", name, printable(fmt.Sprintf(format, args...)))
	}
	line("point", "%s", p.ID)
	line("group", "%s", p.Group)
	line("host", "%s", p.Host)
	line("time", "%s", p.Time.Format("2006-01-02 15:04:05 MST"))
	line("consistency", "%s", p.Consistency)
	if p.Why != "" {
		line("why", "%s", p.Why)
	}
	line("window", "%s (freeze %d µs, snapshot %d µs, thaw %d µs)", window(p.WindowUS), p.Timings.Freeze, p.Timings.Snapshot, p.Timings.Thaw)
	for _, m := range p.Members {
		if m.How == string(freeze.LeftAlone) {
			line("left alone", "%s %s: it stood still before, and does so still", m.Kind, m.Name)
			continue
		}
		line("stood still", "%s %s (%s)", m.Kind, m.Name, m.How)
	}
	for _, d := range p.Datasets {
		line("dataset", "%s:%s snapshot %s guid %s", d.Driver, d.Dataset, d.Snapshot, d.GUID)
		if len(d.Paths) > 0 {
			line("", "used as %s", strings.Join(d.Paths, ", "))
		}
	}
	for _, s := range p.Shipped {
		base := "full"
		if s.Base != nil {
			base = "on " + string(*s.Base)
		}
		line("shipped", "%s: %s as stream %s, %s: %s of stream, %s stored in %d segments", s.Repository, s.Dataset, s.Stream, base, size(s.SentBytes), size(s.StoredBytes), s.Segments)
	}
	if p.Verified != nil {
		line("verified", "%s", p.Verified.Format("2006-01-02 15:04:05 MST"))
	}
	for _, w := range p.Warnings {
		line("warning", "%s", w)
	}
}
