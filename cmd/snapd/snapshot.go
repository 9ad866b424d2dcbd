package main

import (
	"snapd/internal/advice"
	"snapd/internal/agent"
	"snapd/internal/point"

	"github.com/spf13/cobra"
)

// pointsDocument is what snapshot, ship, run and list print.
type pointsDocument struct {
	Points []point.Point `json:"points"`
}

func (c *cli) showPoints(points []point.Point) {
	if points == nil {
		points = []point.Point{}
	}
	for i := range points {
		points[i] = shown(points[i])
	}
	c.result = pointsDocument{Points: points}
	if !c.json && len(points) > 0 {
		c.points(points)
	}
}

// shown is a point as it may be printed: without the definitions of its
// containers, which hold passwords; absent lists are empty ones for programs.
func shown(p point.Point) point.Point {
	p.Containers = nil
	if p.Shipped == nil {
		p.Shipped = []point.Shipped{}
	}
	if p.Datasets == nil {
		p.Datasets = []point.Dataset{}
	}
	return p
}

func (c *cli) snapshotCommand() *cobra.Command {
	ship := false
	cmd := &cobra.Command{
		Use:     "snapshot GROUP...",
		GroupID: "daily",
		Short:   "Take one restore point of each group",
		Long: `Take one restore point of each group: find its members and datasets, freeze
what has to be, snapshot everything, thaw. The point says what was frozen, for how
long, and what consistency came of it.`,
		Args: atLeastOneGroup,
		RunE: func(cmd *cobra.Command, args []string) error {
			_, err := c.do(cmd.Context(), args, agent.Steps{Snapshot: true, Ship: ship})
			return err
		},
	}
	cmd.Flags().BoolVar(&ship, "ship", false, "ship the points too")
	return cmd
}

func atLeastOneGroup(_ *cobra.Command, args []string) error {
	if len(args) == 0 {
		return advice.With(advice.Usagef("no group is named"), "name at least one; snapd status lists them")
	}
	return nil
}
