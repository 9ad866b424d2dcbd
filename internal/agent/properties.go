package agent

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"

	"snapd/internal/fs"
	"snapd/internal/point"
)

// describe keeps in a point what a person has set on its datasets. It is no
// reason to lose the point when that cannot be read.
func (a *Agent) describe(ctx context.Context, r *resolved, p *point.Point) {
	all := map[string]map[string]string{}
	for name, driver := range a.Drivers {
		d, ok := driver.(fs.Describer)
		if !ok {
			continue
		}
		of := slices.DeleteFunc(slices.Clone(r.datasets), func(d fs.Dataset) bool { return d.Driver != name })
		if len(of) == 0 {
			continue
		}
		props, err := d.Properties(ctx, of)
		if err != nil {
			p.Warnings = append(p.Warnings, fmt.Sprintf("the properties of its datasets are not in the point: %v", err))
		}
		maps.Copy(all, props)
	}
	if len(all) == 0 {
		return
	}
	text, err := json.Marshal(all)
	if err != nil {
		p.Warnings = append(p.Warnings, fmt.Sprintf("the properties of its datasets are not in the point: %v", err))
		return
	}
	p.Properties = text
}

// expect tells a receiver what the dataset was like.
func expect(ctx context.Context, receiver fs.Receiver, p point.Point, d point.Dataset) error {
	e, ok := receiver.(fs.Expecter)
	if !ok || len(p.Properties) == 0 {
		return nil
	}
	var all map[string]map[string]string
	if err := json.Unmarshal(p.Properties, &all); err != nil {
		return fmt.Errorf("the point's properties of its datasets: %w", err)
	}
	return e.Expect(ctx, all[d.Origin])
}
