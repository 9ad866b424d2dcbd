package shiptest

import (
	"context"
	"io"
	"strings"
	"sync"

	"snapd/internal/ship"
)

// Fault is one thing that goes wrong. It happens at the Nth call (from 1) of
// Op ("put", "get", "list", "delete") whose key begins with Key, and at every
// later one as well if Always is set.
type Fault struct {
	Op     string
	Key    string
	Nth    int
	Always bool

	Err   error  // returned
	After bool   // of a put or delete: it happens, and then Err is returned (a lost answer)
	Cut   int    // of a get: the body ends with Err after so many bytes
	Hang  bool   // nothing happens until the context ends
	Do    func() // called first, if set
}

// Faults is a store that fails as scripted.
type Faults struct {
	store ship.Store

	mu     sync.Mutex
	script []Fault
	seen   []int
}

// NewFaults puts a script before a store.
func NewFaults(s ship.Store, script ...Fault) *Faults {
	return &Faults{store: s, script: script, seen: make([]int, len(script))}
}

func (f *Faults) next(op, key string) *Fault {
	f.mu.Lock()
	defer f.mu.Unlock()
	var hit *Fault
	for i := range f.script {
		s := &f.script[i]
		if s.Op != op || !strings.HasPrefix(key, s.Key) {
			continue
		}
		f.seen[i]++
		if hit == nil && (f.seen[i] == s.Nth || s.Always && f.seen[i] > s.Nth) {
			hit = s
		}
	}
	return hit
}

// run does what a fault says around op.
func (f *Faults) run(ctx context.Context, name, key string, op func() error) error {
	fault := f.next(name, key)
	if fault == nil {
		return op()
	}
	if fault.Do != nil {
		fault.Do()
	}
	if fault.Hang {
		<-ctx.Done()
		return ctx.Err()
	}
	if fault.After {
		if err := op(); err != nil {
			return err
		}
	}
	if fault.Err == nil {
		return op()
	}
	return fault.Err
}

// Put is as ship.Store says, but for the script.
func (f *Faults) Put(ctx context.Context, key string, body []byte, ifAbsent bool) error {
	return f.run(ctx, "put", key, func() error { return f.store.Put(ctx, key, body, ifAbsent) })
}

// Get is as ship.Store says, but for the script.
func (f *Faults) Get(ctx context.Context, key string) (io.ReadCloser, error) {
	fault := f.next("get", key)
	if fault == nil {
		return f.store.Get(ctx, key)
	}
	if fault.Do != nil {
		fault.Do()
	}
	if fault.Hang {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	if fault.Cut == 0 && fault.Err != nil {
		return nil, fault.Err
	}
	body, err := f.store.Get(ctx, key)
	if err != nil || fault.Cut == 0 {
		return body, err
	}
	return &cutReader{ReadCloser: body, left: fault.Cut, err: fault.Err}, nil
}

type cutReader struct {
	io.ReadCloser
	left int
	err  error
}

func (c *cutReader) Read(p []byte) (int, error) {
	if c.left == 0 {
		if c.err == nil {
			return 0, io.ErrUnexpectedEOF
		}
		return 0, c.err
	}
	n, err := c.ReadCloser.Read(p[:min(len(p), c.left)])
	c.left -= n
	return n, err
}

// List is as ship.Store says, but for the script.
func (f *Faults) List(ctx context.Context, prefix string, each func(ship.Object) error) error {
	return f.run(ctx, "list", prefix, func() error { return f.store.List(ctx, prefix, each) })
}

// Delete is as ship.Store says, but for the script.
func (f *Faults) Delete(ctx context.Context, key string) error {
	return f.run(ctx, "delete", key, func() error { return f.store.Delete(ctx, key) })
}
