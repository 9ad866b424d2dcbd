package ship

import (
	"context"
	"fmt"
	"slices"

	"snapd/internal/point"
)

// Chain returns what restores a stream: the full stream first, then every one
// that builds on it up to the wanted one, each manifest verified. view may be
// nil.
func (r *Repository) Chain(ctx context.Context, stream point.ID, _ *View) ([]*Manifest, error) {
	index, err := r.Index(ctx)
	if err != nil {
		return nil, err
	}
	ref, ok := index.Stream(stream)
	if !ok {
		return nil, fmt.Errorf("chain of stream %s: %w in the repository", stream, ErrNotFound)
	}
	m, err := r.Manifest(ctx, ref)
	if err != nil {
		return nil, fmt.Errorf("chain of stream %s: %w", stream, err)
	}
	chain := []*Manifest{m}
	for m.Base != "" {
		ref, ok := index.Stream(m.Base)
		if !ok {
			return nil, fmt.Errorf("chain of stream %s: its base %s: %w in the repository", m.ID, m.Base, ErrNotFound)
		}
		base, err := r.Manifest(ctx, ref)
		if err != nil {
			return nil, fmt.Errorf("chain of stream %s: its base: %w", m.ID, err)
		}
		if err := checkBase(m, base); err != nil {
			return nil, err
		}
		chain = append(chain, base)
		m = base
	}
	slices.Reverse(chain)
	return chain, nil
}

// checkBase refuses a base that does not make what the stream builds on. The
// depth falls with every step, so that no circle is possible.
func checkBase(m, base *Manifest) error {
	if base.Origin != m.Origin || base.GUID != m.BaseGUID || base.Driver != m.Driver || base.Depth != m.Depth-1 {
		return fmt.Errorf("stream %s: %w: it builds on snapshot %s of dataset %s at depth %d, but its base %s makes snapshot %s of dataset %s at depth %d",
			m.ID, ErrDamaged, m.BaseGUID, m.Origin, m.Depth-1, base.ID, base.GUID, base.Origin, base.Depth)
	}
	return nil
}
