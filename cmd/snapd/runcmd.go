package main

import (
	"cmp"
	"errors"
	"maps"
	"slices"

	"snapd/internal/agent"
	"snapd/internal/point"

	"github.com/spf13/cobra"
)

func (c *cli) runCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "run GROUP...",
		GroupID: "daily",
		Short:   "Snapshot, ship, prune: what a timer calls",
		Args:    atLeastOneGroup,
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx := cmd.Context()
			a, err := c.agent(true)
			if err != nil {
				return err
			}
			taken, err := a.Snapshot(ctx, args)
			if len(taken) == 0 && errors.Is(err, agent.ErrUsage) {
				c.showPoints(nil)
				return err // the same would be wrong with the rest
			}
			faults := []error{err}
			shipped, err := a.Ship(ctx, args)
			faults = append(faults, err)
			if ctx.Err() == nil {
				_, err = a.Prune(ctx, args, false)
				faults = append(faults, err)
			}
			points := newestFacts(taken, shipped)
			c.showPoints(points)
			return partly(points, errors.Join(faults...))
		},
	}
}

// newestFacts joins the points taken and those shipped; of one that is both,
// what is known after the ship.
func newestFacts(taken, shipped []point.Point) []point.Point {
	byID := map[point.ID]point.Point{}
	for _, p := range slices.Concat(taken, shipped) {
		byID[p.ID] = p
	}
	return slices.SortedFunc(maps.Values(byID), func(a, b point.Point) int { return cmp.Compare(a.ID, b.ID) })
}
