package agent

import (
	"context"
	"io"
	"path"

	"snapd/internal/inside"
	"snapd/internal/point"
)

// Listing is what is at a place in a point.
type Listing struct {
	Point    point.ID       `json:"point"`
	Path     string         `json:"path"`     // on the host, when the point was taken; "" for the point itself
	Datasets []TopDataset   `json:"datasets"` // of the point, where no path was named and it has several
	Entries  []inside.Entry `json:"entries"`
}

// TopDataset is a dataset as a listing of a point names it.
type TopDataset struct {
	Path    string `json:"path"` // where its root lay on the host, or its name
	Driver  string `json:"driver"`
	Dataset string `json:"dataset"`
}

// ListInside says what is at a place in a point, POINT[:PATH]: its datasets, what is in a
// folder, or one file. It reads a snapshot of this host and no repository.
func (a *Agent) ListInside(ctx context.Context, where string) (Listing, error) {
	s, err := a.findInside(ctx, where)
	out := Listing{Point: s.point.ID, Datasets: []TopDataset{}, Entries: []inside.Entry{}}
	if err != nil {
		return out, err
	}
	if s.dataset == nil && len(s.point.Datasets) > 1 {
		for i := range s.point.Datasets {
			d := &s.point.Datasets[i]
			out.Datasets = append(out.Datasets, TopDataset{topOf(s.point, d), d.Driver, d.Dataset})
		}
		return out, nil
	}
	if err := s.needPath(); err != nil {
		return out, err
	}
	out.Path = path.Join(topOf(s.point, s.dataset), s.path)
	err = a.within(ctx, s, func(t inside.Tree) error {
		entries, err := t.List(s.path)
		out.Entries = append(out.Entries, entries...)
		return err
	})
	return out, err
}

// Cat writes a file of a point out.
func (a *Agent) Cat(ctx context.Context, where string, w io.Writer) error {
	s, err := a.findInside(ctx, where)
	if err == nil {
		err = s.needPath()
	}
	if err != nil {
		return err
	}
	return a.within(ctx, s, func(t inside.Tree) error { return t.Cat(s.path, w) })
}
