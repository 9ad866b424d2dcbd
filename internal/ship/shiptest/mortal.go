package shiptest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"

	"snapd/internal/ship"
)

// Mortal stands in for a process that is killed: after its last write is done
// it answers no request any more, so that what its user would still do, tidying
// up included, does not happen.
type Mortal struct {
	ship.Store

	mu   sync.Mutex
	left int // writes
	died bool
}

var errDied = errors.New("killed")

// NewMortal lets so many puts and deletes happen.
func NewMortal(s ship.Store, writes int) *Mortal { return &Mortal{Store: s, left: writes} }

// Died tells whether anything was asked for after the last write.
func (m *Mortal) Died() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.died
}

func (m *Mortal) dead(op, key string, write bool) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.left == 0 {
		m.died = true
		return fmt.Errorf("%s %s: %w", op, key, errDied)
	}
	if write {
		m.left--
	}
	return nil
}

// Put is as ship.Store says, while it lives.
func (m *Mortal) Put(ctx context.Context, key string, body []byte, ifAbsent bool) error {
	if err := m.dead("put", key, true); err != nil {
		return err
	}
	return m.Store.Put(ctx, key, body, ifAbsent)
}

// Get is as ship.Store says, while it lives.
func (m *Mortal) Get(ctx context.Context, key string) (io.ReadCloser, error) {
	if err := m.dead("get", key, false); err != nil {
		return nil, err
	}
	return m.Store.Get(ctx, key)
}

// List is as ship.Store says, while it lives.
func (m *Mortal) List(ctx context.Context, prefix string, each func(ship.Object) error) error {
	if err := m.dead("list", prefix, false); err != nil {
		return err
	}
	return m.Store.List(ctx, prefix, each)
}

// Delete is as ship.Store says, while it lives.
func (m *Mortal) Delete(ctx context.Context, key string) error {
	if err := m.dead("delete", key, true); err != nil {
		return err
	}
	return m.Store.Delete(ctx, key)
}
