package ship

import (
	"context"
	"fmt"
	"slices"

	"snapd/internal/point"
)

// Chain returns what restores a stream: the full stream first, then every one
// that is read after it up to the wanted one, each manifest verified. Where a
// base is damaged or missing, another stream of the same dataset that makes
// the same snapshot takes its place. view may be nil.
func (r *Repository) Chain(ctx context.Context, stream point.ID, view *View) ([]*Manifest, error) {
	if view == nil {
		var err error
		if view, err = r.View(ctx, nil, Whole); err != nil {
			return nil, err
		}
	}
	var chain []*Manifest
	for id := stream; id != ""; {
		ref, err := r.findStream(ctx, view, id)
		if err != nil {
			return nil, fmt.Errorf("chain of stream %s: stream %s: %w", stream, id, err)
		}
		m, err := r.Manifest(ctx, ref)
		if err != nil {
			return nil, fmt.Errorf("chain of stream %s: %w", stream, err)
		}
		if !ref.Digest.IsZero() && m.Digest != ref.Digest {
			return nil, fmt.Errorf("chain of stream %s: manifest %s: %w: it is not the one that the point names", stream, m.Key, ErrDamaged)
		}
		if len(chain) > 0 {
			if err := checkBase(chain[len(chain)-1], m); err != nil {
				return nil, err
			}
		}
		if chain = append(chain, m); len(chain) > maxDepth {
			return nil, fmt.Errorf("chain of stream %s: %w: it has no end", stream, ErrDamaged)
		}
		if id = m.Base; view.Whole(m.ID) {
			id = view.under[m.ID]
		}
	}
	slices.Reverse(chain)
	return chain, nil
}

// findStream says what a stream is, also of one that no record tells of: then
// one listing names what may be its manifest.
func (r *Repository) findStream(ctx context.Context, view *View, id point.ID) (StreamRef, error) {
	if ref, ok := view.Stream(id); ok && ref.Key != "" {
		return ref, nil
	}
	l := &looker{repo: r, v: view, asked: map[string]bool{}}
	look := view.look
	view.look = Known // so that it lists what there is of this stream
	problem, err := l.resolve(ctx, id)
	view.look = look
	if err == nil {
		err = problem
	}
	view.settle()
	return view.found[id], err
}

// checkBase refuses a base that does not make what the stream builds on. The
// depth is not compared: what takes the place of a base may have another.
func checkBase(m, base *Manifest) error {
	if base.Origin != m.Origin || base.GUID != m.BaseGUID || base.Driver != m.Driver {
		return fmt.Errorf("stream %s: %w: it builds on snapshot %s of dataset %s, but its base %s makes snapshot %s of dataset %s",
			m.ID, ErrDamaged, m.BaseGUID, m.Origin, base.ID, base.GUID, base.Origin)
	}
	return nil
}
