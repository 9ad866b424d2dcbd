package fstest

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	iofs "io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"snapd/internal/fs"
)

// Memory is a driver that keeps its snapshots in memory. Its datasets are
// directories with real files, so that what comes back can be compared. It is
// the strictest driver: what the contract leaves open it refuses. Needs no root.
//
// It has no optional capability by itself. Those of drivers are fields of a
// struct that a test puts around it,
//
//	struct {
//		*fstest.Memory
//		fstest.Checking
//	}{m, check}
//
// and those of its streams and receivers are fields of Memory.
type Memory struct {
	Kind   string // what its datasets say of their Driver; "memory" when empty
	Stream string // the format of its streams; "memory-1" when empty
	Fixed  bool   // a chain has to keep to one format

	// Resumes makes its streams fs.Staters and fs.Densers.
	Resumes bool
	// Continues makes its receivers fs.Continuers, fs.Expecters and fs.Roomers.
	Continues bool
	// StreamNotes and ReceiverNotes, if any, make those fs.Noters.
	StreamNotes, ReceiverNotes []string
	// Room is how many bytes restores may have to targets below a directory.
	Room map[string]int64
	// Foreign are the names of datasets that are read-only snapshots of other
	// programs.
	Foreign map[string]bool
	// Fault is called at the beginning of a method of Driver with its name, and
	// of Take, Apply and Finish. What it returns is what they return. May be nil.
	Fault func(call string) error

	mu       sync.Mutex
	datasets map[string]*memoryDataset // by GUID
	marks    map[string]*memorySnapshot
	holds    []memoryHold
	building map[*memoryReceiver]bool
	kept     map[string]*keptRestore // by the target that was asked for
	order    uint64
	between  func(path string) // between the files of a snapshot that is of no instant: a fault for the suite
}

type memoryDataset struct {
	fs.Dataset
	gone  bool
	snaps []*memorySnapshot
}

type memorySnapshot struct {
	fs.Snapshot
	image image
}

type memoryHold struct{ purpose, guid string }

var (
	_ fs.Driver   = (*Memory)(nil)
	_ fs.Prepared = (*memoryPrepared)(nil)
)

// memoryDomain is one for all of its datasets: they are of one instant.
const memoryDomain = "memory:1"

func newGUID() string { return strings.ToLower(rand.Text()) }

// Add makes a directory a dataset; it makes the directory when it is missing.
func (m *Memory) Add(dir string) (fs.Dataset, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fs.Dataset{}, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.add(dir), nil
}

func (m *Memory) add(dir string) fs.Dataset {
	d := &memoryDataset{Dataset: fs.Dataset{Driver: cmp.Or(m.Kind, "memory"), Name: dir, GUID: newGUID(), Domain: memoryDomain}}
	if m.datasets == nil {
		m.datasets = map[string]*memoryDataset{}
	}
	m.datasets[d.GUID] = d
	return d.Dataset
}

// Remove takes a dataset away; its snapshots stay. With forget they go too.
func (m *Memory) Remove(guid string, forget bool) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	d := m.datasets[guid]
	d.gone = true
	if forget {
		d.snaps = nil
	}
	return os.RemoveAll(d.Name)
}

// Return puts back a dataset that Remove took away, as a mount does, empty.
func (m *Memory) Return(guid string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	d := m.datasets[guid]
	d.gone = false
	return os.MkdirAll(d.Name, 0o755)
}

// Destroy removes snapshots as a user does by hand: those for which keep says
// no, counted from the oldest.
func (m *Memory) Destroy(keep func(i int) bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for i, s := range m.all() {
		if !keep(i) {
			d := m.datasets[s.Dataset.GUID]
			d.snaps = slices.DeleteFunc(d.snaps, func(o *memorySnapshot) bool { return o == s })
		}
	}
}

// All are the snapshots of all datasets, oldest first.
func (m *Memory) All() []fs.Snapshot {
	m.mu.Lock()
	defer m.mu.Unlock()
	return listed(m.all())
}

func (m *Memory) all() []*memorySnapshot {
	var out []*memorySnapshot
	for _, d := range m.datasets {
		out = append(out, d.snaps...)
	}
	slices.SortFunc(out, func(a, b *memorySnapshot) int { return cmp.Compare(a.Order, b.Order) })
	return out
}

func listed(snaps []*memorySnapshot) []fs.Snapshot {
	out := make([]fs.Snapshot, len(snaps))
	for i, s := range snaps {
		out[i] = s.Snapshot
	}
	return out
}

// enter begins a method.
func (m *Memory) enter(ctx context.Context, call string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	return m.fault(call)
}

func (m *Memory) fault(call string) error {
	if m.Fault == nil {
		return nil
	}
	return m.Fault(call)
}

// Locate implements fs.Driver.
func (m *Memory) Locate(ctx context.Context, path string) (fs.Place, error) {
	if err := m.enter(ctx, "Locate"); err != nil {
		return fs.Place{}, err
	}
	if _, err := os.Lstat(path); errors.Is(err, iofs.ErrNotExist) {
		return fs.Place{}, fmt.Errorf("locate %q: %w", path, fs.ErrNotFound)
	} else if err != nil {
		return fs.Place{}, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	var found *memoryDataset
	var nested, foreign []string
	for _, d := range m.datasets {
		switch {
		case d.gone:
		case isBelow(path, d.Name):
			if found == nil || len(d.Name) > len(found.Name) {
				found = d
			}
		case isBelow(d.Name, path) && m.Foreign[d.Name]:
			foreign = append(foreign, d.Name)
		case isBelow(d.Name, path):
			nested = append(nested, d.Name)
		}
	}
	if found == nil {
		return fs.Place{}, fmt.Errorf("locate %q: %w", path, fs.ErrNotMine)
	}
	rest, err := filepath.Rel(found.Name, path)
	slices.Sort(nested)
	slices.Sort(foreign)
	return fs.Place{Dataset: found.Dataset, Path: rest, Nested: nested, Foreign: foreign}, err
}

// isBelow tells whether a path is a directory or lies in it.
func isBelow(path, dir string) bool { return path == dir || strings.HasPrefix(path, dir+"/") }

// Snapshots implements fs.Driver.
func (m *Memory) Snapshots(ctx context.Context, dataset fs.Dataset) ([]fs.Snapshot, error) {
	if err := m.enter(ctx, "Snapshots"); err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	d := m.datasets[dataset.GUID]
	if d == nil || d.gone && len(d.snaps) == 0 {
		return nil, fmt.Errorf("dataset %s: %w", dataset.Name, fs.ErrNotFound)
	}
	return listed(d.snaps), nil
}

// Delete implements fs.Driver. What is held is busy.
func (m *Memory) Delete(ctx context.Context, snapshot fs.Snapshot) error {
	if err := m.enter(ctx, "Delete"); err != nil {
		return err
	}
	if _, _, err := fs.ParseSnapshotName(snapshot.Name); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	d := m.datasets[snapshot.Dataset.GUID]
	if d == nil {
		return nil
	}
	for i, s := range d.snaps {
		if s.Name != snapshot.Name && s.GUID != snapshot.GUID {
			continue
		}
		if s.Name != snapshot.Name || s.GUID != snapshot.GUID {
			return fmt.Errorf("delete %s (%s): another snapshot has that name now: %s (%s)", snapshot.Name, snapshot.GUID, s.Name, s.GUID)
		}
		if m.held(s.GUID) {
			return fmt.Errorf("delete %s: it is held: %w", snapshot.Name, fs.ErrBusy)
		}
		d.snaps = slices.Delete(d.snaps, i, i+1)
		return nil
	}
	return nil
}

func (m *Memory) held(guid string) bool {
	return slices.ContainsFunc(m.holds, func(h memoryHold) bool { return h.guid == guid })
}

// Prepare implements fs.Driver.
func (m *Memory) Prepare(ctx context.Context, name string, datasets []fs.Dataset) (fs.Prepared, error) {
	if err := m.enter(ctx, "Prepare"); err != nil {
		return nil, err
	}
	if _, _, err := fs.ParseSnapshotName(name); err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	p := &memoryPrepared{m: m, name: name}
	for _, dataset := range datasets {
		d := m.datasets[dataset.GUID]
		if d == nil || d.gone {
			return nil, fmt.Errorf("dataset %s: %w", dataset.Name, fs.ErrNotFound)
		}
		p.of = append(p.of, d)
	}
	return p, p.free()
}

type memoryPrepared struct {
	m      *Memory
	name   string
	of     []*memoryDataset
	made   []fs.Snapshot
	taken  bool
	closed bool
}

func (p *memoryPrepared) free() error {
	for _, d := range p.of {
		if slices.ContainsFunc(d.snaps, func(s *memorySnapshot) bool { return s.Name == p.name }) {
			return fmt.Errorf("snapshot %s of %s: %w", p.name, d.Name, fs.ErrExists)
		}
	}
	return nil
}

// Take implements fs.Prepared.
func (p *memoryPrepared) Take() error {
	m := p.m
	if err := m.fault("Take"); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if p.closed || p.taken {
		return fmt.Errorf("take %s: %w", p.name, os.ErrClosed)
	}
	if err := p.free(); err != nil {
		return err
	}
	p.taken = true
	dirs := make([]string, len(p.of))
	for i, d := range p.of {
		dirs[i] = d.Name
	}
	images, err := capture(dirs, m.between)
	if err != nil {
		return fmt.Errorf("take %s: %w", p.name, err)
	}
	m.order++
	at := time.Now().UTC().Round(0)
	for i, d := range p.of {
		s := &memorySnapshot{fs.Snapshot{Dataset: d.Dataset, Name: p.name, GUID: newGUID(), Order: m.order, Time: at}, images[i]}
		if n := len(d.snaps); n > 0 {
			s.image.share(d.snaps[n-1].image)
		}
		d.snaps = append(d.snaps, s)
		p.made = append(p.made, s.Snapshot)
	}
	return nil
}

// Result implements fs.Prepared.
func (p *memoryPrepared) Result(ctx context.Context) ([]fs.Snapshot, error) {
	return slices.Clone(p.made), ctx.Err()
}

// Close implements fs.Prepared.
func (p *memoryPrepared) Close() error {
	p.m.mu.Lock()
	defer p.m.mu.Unlock()
	p.closed = true
	return nil
}
