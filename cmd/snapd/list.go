package main

import (
	"fmt"

	"snapd/internal/advice"

	"github.com/spf13/cobra"
)

func (c *cli) listCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "list [GROUP]",
		GroupID: "look",
		Short:   "List restore points here and in the repositories",
		Args:    atMostOne("group"),
		RunE: func(cmd *cobra.Command, args []string) error {
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
			c.showPoints(points)
			if len(points) == 0 && err == nil {
				c.say(noPoints(group))
			}
			return err
		},
	}
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
