package main

import (
	"errors"

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
		points[i] = forPrograms(points[i])
		points[i].Containers = nil // show prints them: they are long, and hold what stands in environments
	}
	c.result = pointsDocument{Points: points}
	if !c.json && len(points) > 0 {
		c.points(points)
	}
}

// forPrograms makes absent lists empty ones.
func forPrograms(p point.Point) point.Point {
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
		Long: `Take one restore point of each group: find its members and datasets, stand
still what has to, snapshot everything, let go. What was frozen, for how long,
and what consistency came of it stands in the point.`,
		Args: atLeastOneGroup,
		RunE: func(cmd *cobra.Command, args []string) error {
			a, err := c.agent(true)
			if err != nil {
				return err
			}
			points, err := a.Snapshot(cmd.Context(), args)
			if ship && len(points) > 0 {
				shipped, more := a.Ship(cmd.Context(), args)
				points, err = newestFacts(points, shipped), errors.Join(err, more)
			}
			c.showPoints(points)
			return partly(points, err)
		},
	}
	cmd.Flags().BoolVar(&ship, "ship", false, "ship the points too")
	return cmd
}

func atLeastOneGroup(_ *cobra.Command, args []string) error {
	if len(args) == 0 {
		return errors.Join(agent.ErrUsage, errors.New("name at least one group; snapd status lists them"))
	}
	return nil
}

// partly marks an error beside which something was achieved.
func partly(done []point.Point, err error) error {
	if err == nil || len(done) == 0 || errors.Is(err, agent.ErrPartial) {
		return err
	}
	return errors.Join(agent.ErrPartial, err)
}
