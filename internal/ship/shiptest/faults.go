package shiptest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"

	"snapd/internal/ship"
)

// Fault is one thing that goes wrong. It happens at the Nth call (from 1) of
// Op ("put", "get", "stat", "list", "delete") whose key begins with Key, and at
// every later one as well if Always is set.
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

	// Listed changes what a listing tells, if set. Err comes after it.
	Listed func([]ship.Object) []ship.Object
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
	return f.happen(ctx, f.next(name, key), op)
}

func (f *Faults) happen(ctx context.Context, fault *Fault, op func() error) error {
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
	if fault.After || fault.Err == nil {
		if err := op(); err != nil {
			return err
		}
	}
	return fault.Err
}

// Put is as ship.Store says, but for the script.
func (f *Faults) Put(ctx context.Context, key string, body []byte, ifAbsent bool) error {
	return f.run(ctx, "put", key, func() error { return f.store.Put(ctx, key, body, ifAbsent) })
}

// PutDigest is as ship.DigestPutter says, but for the script.
func (f *Faults) PutDigest(ctx context.Context, key string, body []byte, ifAbsent bool, sum ship.Digest) (etag string, err error) {
	err = f.run(ctx, "put", key, func() (err error) {
		d, ok := f.store.(ship.DigestPutter)
		if !ok {
			return f.store.Put(ctx, key, body, ifAbsent)
		}
		etag, err = d.PutDigest(ctx, key, body, ifAbsent, sum)
		return err
	})
	return etag, err
}

// Stat is as ship.ObjectStater says, but for the script.
func (f *Faults) Stat(ctx context.Context, key string) (o ship.Object, err error) {
	err = f.run(ctx, "stat", key, func() (err error) {
		s, ok := f.store.(ship.ObjectStater)
		if !ok {
			return fmt.Errorf("stat %s: %w", key, errors.ErrUnsupported)
		}
		o, err = s.Stat(ctx, key)
		return err
	})
	return o, err
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
	fault := f.next("list", prefix)
	if fault == nil || fault.Listed == nil {
		return f.happen(ctx, fault, func() error { return f.store.List(ctx, prefix, each) })
	}
	var all []ship.Object
	if err := f.store.List(ctx, prefix, func(o ship.Object) error { all = append(all, o); return nil }); err != nil {
		return err
	}
	return f.happen(ctx, &Fault{Err: fault.Err, After: true, Hang: fault.Hang, Do: fault.Do}, func() error {
		for _, o := range fault.Listed(all) {
			if err := each(o); err != nil {
				return err
			}
		}
		return nil
	})
}

// Delete is as ship.Store says, but for the script.
func (f *Faults) Delete(ctx context.Context, key string) error {
	return f.run(ctx, "delete", key, func() error { return f.store.Delete(ctx, key) })
}
