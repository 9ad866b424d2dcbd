package main

import (
	"fmt"
	"strings"
	"time"

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
		c.print(2, "%-12s %s", name, fmt.Sprintf(format, args...))
	}
	line("point", "%s", p.ID)
	line("group", "%s", p.Group)
	line("host", "%s", p.Host)
	line("time", "%s", p.Time.Format("2006-01-02 15:04:05 MST"))
	line("consistency", "%s", p.Consistency)
	if p.Why != "" {
		line("why", "%s", p.Why)
	}
	if p.HeldUS > 0 {
		line("held", "%s (locks were had after %s)", window(p.HeldUS), window(p.Timings.Hold))
	}
	line("window", "%s (freeze %d µs, snapshot %d µs, thaw %d µs)", window(p.WindowUS), p.Timings.Freeze, p.Timings.Snapshot, p.Timings.Thaw)
	for _, q := range p.Quiesced {
		line("quiesced", "container %s: %s", q.Container, quiesced(q))
	}
	for _, h := range p.Hooks {
		line("hook", "%s, in container %s: %s", h.When, h.Container, ended(h, p.Hidden))
	}
	for _, m := range p.Members {
		switch freeze.How(m.How) {
		case freeze.LeftAlone:
			line("left alone", "%s %s: it was frozen before, and still is", m.Kind, m.Name)
		case freeze.ByStop:
			line("stopped", "%s %s", m.Kind, m.Name)
		case freeze.NotRunning:
			line("not running", "%s %s", m.Kind, m.Name)
		default:
			line("frozen", "%s %s (%s)", m.Kind, m.Name, m.How)
		}
	}
	for _, d := range p.Datasets {
		line("dataset", "%s:%s snapshot %s guid %s", d.Driver, d.Dataset, d.Snapshot, d.GUID)
		if len(d.Paths) > 0 {
			line("", "used as %s", strings.Join(d.Paths, ", "))
		}
	}
	for _, i := range p.Items {
		line("item", "%s: %s", i, i.Place)
	}
	for _, ch := range p.Changed {
		line("changed", "%s", ch)
	}
	for _, s := range p.Shipped {
		base := "full"
		if s.Base != nil {
			base = "on " + string(*s.Base)
		}
		line("shipped", "%s: %s as stream %s, %s: %s of stream, %s stored in %s", s.Repository, s.Dataset, s.Stream, base, size(s.SentBytes), size(s.StoredBytes), plural(s.Segments, "segment", "segments"))
		if s.Why != "" {
			line("", "%s", s.Why)
		}
	}
	if p.Verified != nil {
		line("verified", "%s", p.Verified.Format("2006-01-02 15:04:05 MST"))
	}
	for _, w := range p.Warnings {
		line("warning", "%s", w)
	}
	if p.Hidden != "" {
		line("hidden", "what hooks and locks were called with and printed: ask as root")
	}
}

func quiesced(q point.Quiet) string {
	switch {
	case q.HeldUS == 0:
		return "a checkpoint just before (" + q.By + ")"
	case q.Said != "" && q.By == "command":
		return fmt.Sprintf("its hold command said %q, and held for %s", q.Said, window(q.HeldUS))
	}
	return fmt.Sprintf("%s, held for %s, tries: %d", q.By, window(q.HeldUS), q.Tries)
}

// ended says what became of a hook; what it printed only if it failed. hidden stands
// for that where the caller may not see it.
func ended(h point.Hook, hidden string) string {
	printed := strings.TrimSpace(h.Output)
	if printed == "" {
		printed = hidden
	}
	took := time.Duration(h.Seconds * float64(time.Second)).Round(time.Millisecond)
	switch {
	case h.Error != "":
		return fmt.Sprintf("failed after %v: %s; it printed: %s", took, h.Error, printed)
	case h.Exit != 0:
		return fmt.Sprintf("status %d after %v; it printed: %s", h.Exit, took, printed)
	}
	return fmt.Sprintf("done in %v", took)
}
