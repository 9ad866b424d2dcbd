package agent

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"snapd/internal/fs"
)

// shots are the prepared snapshots of all drivers that a group needs.
type shots []fs.Prepared

func (a *Agent) prepare(ctx context.Context, r *resolved, name string) (shots, error) {
	byDriver := map[string][]fs.Dataset{}
	var order []string
	for _, d := range r.datasets {
		if !slices.Contains(order, d.Driver) {
			order = append(order, d.Driver)
		}
		byDriver[d.Driver] = append(byDriver[d.Driver], d)
	}
	var out shots
	for _, d := range order {
		driver, err := a.driver(d)
		if err != nil {
			return out, err
		}
		prepared, err := driver.Prepare(ctx, name, byDriver[d])
		if err != nil {
			return out, fmt.Errorf("prepare the snapshot: %w", err)
		}
		out = append(out, prepared)
	}
	return out, nil
}

// take runs in the window.
func (s shots) take() error {
	for _, p := range s {
		if err := p.Take(); err != nil {
			return err
		}
	}
	return nil
}

func (s shots) result(ctx context.Context) ([]fs.Snapshot, error) {
	var out []fs.Snapshot
	var faults []error
	for _, p := range s {
		snaps, err := p.Result(ctx)
		out = append(out, snaps...)
		if err != nil {
			faults = append(faults, err)
		}
	}
	return out, errors.Join(faults...)
}

func (s shots) close() error {
	var faults []error
	for _, p := range s {
		faults = append(faults, p.Close())
	}
	return errors.Join(faults...)
}
