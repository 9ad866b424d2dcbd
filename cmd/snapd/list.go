package main

import (
	"fmt"
	"slices"
	"time"

	"snapd/internal/advice"
	"snapd/internal/config"
	"snapd/internal/point"

	"github.com/spf13/cobra"
)

func (c *cli) listCommand() *cobra.Command {
	var which whichPoints
	cmd := &cobra.Command{
		Use:     "list [GROUP]",
		GroupID: "look",
		Short:   "List restore points here and in the repositories",
		Long: "Lists restore points here and in the repositories, oldest first, in the time of this\n" +
			"host. Where the terminal is too narrow for all columns, some are left out: snapd show\n" +
			"POINT and --json tell everything.",
		Args: atMostOne("group"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := which.check(c.now()); err != nil {
				return err
			}
			a, done, err := c.calls(cmd.Context(), false)
			if err != nil {
				return err
			}
			defer done()
			group := ""
			if len(args) == 1 {
				group = args[0]
			}
			points, err := a.List(cmd.Context(), group)
			chosen := which.of(points)
			c.showPoints(chosen)
			switch {
			case err != nil:
			case len(points) == 0:
				c.say(noPoints(group))
			case len(chosen) == 0:
				newest := slices.MaxFunc(points, func(a, b point.Point) int { return a.Time.Compare(b.Time) })
				c.say(fmt.Sprintf("No restore points since %s: the newest is %s of %s.", which.from.Local().Format(time.DateTime), newest.ID, newest.Time.Local().Format(time.DateTime)))
			}
			return err
		},
	}
	cmd.Flags().StringVar(&which.since, "since", "", `only points since then: "2026-11-20", "2026-11-20 14:00", or so long ago: "36h", "7d"`)
	cmd.Flags().IntVar(&which.last, "last", 0, "only the newest `N` of each group")
	return cmd
}

// whichPoints says which of the points are listed.
type whichPoints struct {
	since string
	last  int // 0: all
	from  time.Time
}

func (w *whichPoints) check(now time.Time) (err error) {
	if w.last < 0 {
		return advice.With(advice.Usagef("--last %d: it is below 1", w.last), "write how many points of each group are listed, such as --last 5")
	}
	if w.since != "" {
		w.from, err = moment(w.since, now)
	}
	return err
}

// moment reads a time of this host's zone, or how long ago something was.
func moment(text string, now time.Time) (time.Time, error) {
	for _, layout := range []string{time.DateOnly, "2006-01-02 15:04", time.DateTime, "2006-01-02T15:04", time.RFC3339} {
		if t, err := time.ParseInLocation(layout, text, now.Location()); err == nil {
			return t, nil
		}
	}
	d, err := config.ParseDuration(text)
	if err != nil {
		return time.Time{}, advice.With(advice.Usagef("--since %q is neither a time nor a duration", text),
			`write a day ("2026-11-20"), a day and a time of this host's zone ("2026-11-20 14:00"), or how long ago ("36h", "7d")`)
	}
	return now.Add(-d), nil
}

// of picks from points, which are in their order.
func (w *whichPoints) of(points []point.Point) []point.Point {
	chosen := slices.DeleteFunc(slices.Clone(points), func(p point.Point) bool { return p.Time.Before(w.from) })
	if w.last == 0 {
		return chosen
	}
	left := map[string]int{} // points of a group that are still to be left out
	for _, p := range chosen {
		left[p.Group]++
	}
	return slices.DeleteFunc(chosen, func(p point.Point) bool {
		left[p.Group]--
		return left[p.Group] >= w.last
	})
}

func noPoints(group string) string {
	if group == "" {
		return "No restore points yet: snapd run GROUP takes and ships one."
	}
	return fmt.Sprintf("No restore points of a group %q: snapd list shows those of all groups, snapd run %s takes and ships one.", group, group)
}

func atMostOne(what string) cobra.PositionalArgs {
	return func(_ *cobra.Command, args []string) error {
		if len(args) > 1 {
			return advice.With(advice.Usagef("too many arguments"), "name at most one %s", what)
		}
		return nil
	}
}

func noArguments(_ *cobra.Command, args []string) error {
	if len(args) > 0 {
		return advice.With(advice.Usagef("it takes no arguments"), "leave out %q", args[0])
	}
	return nil
}

func exactlyOne(what, example string) cobra.PositionalArgs {
	return func(_ *cobra.Command, args []string) error {
		switch len(args) {
		case 0:
			return advice.With(advice.Usagef("no %s is named", what), "name one, such as %s", example)
		case 1:
			return nil
		}
		return advice.With(advice.Usagef("too many arguments"), "name one %s, such as %s", what, example)
	}
}
