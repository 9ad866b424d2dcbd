package point

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"snapd/internal/advice"
	"snapd/internal/durable"

	"golang.org/x/sync/errgroup"
)

// Record is the local record of points: one file each, below a directory.
// It can be lost: increments go on without it.
//
// All remembers what it read, because one command asks for it several times and
// a host may have ten thousand points. Its methods may be called from several
// goroutines at once.
type Record struct {
	dir string

	mu   sync.Mutex
	read map[ID]*readPoint
}

// readPoint is a file that All has read. Files are replaced and never changed:
// another one has another inode or another time.
type readPoint struct {
	point Point
	file  os.FileInfo
}

// ErrUnknown is what Get gives for a point that is not in the local record.
var ErrUnknown = errors.New("not in the local record")

// OpenRecord uses dir, and makes it when it is missing.
func OpenRecord(dir string) (*Record, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make the local record of points: %w", err)
	}
	return &Record{dir: dir}, nil
}

// Put writes a point, whole or not at all, also through a power cut.
func (r *Record) Put(p Point) error {
	text, err := json.MarshalIndent(p, "", "  ")
	if err != nil {
		return fmt.Errorf("encode point %s: %w", p.ID, err)
	}
	if err := durable.Write(r.file(p.ID), append(text, '\n'), 0o600); err != nil {
		return fmt.Errorf("write point %s into the local record: %w", p.ID, err)
	}
	return nil
}

// Delete forgets a point. One that is not there is no error.
func (r *Record) Delete(id ID) error {
	if err := durable.Remove(r.file(id)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove point %s from the local record: %w", id, err)
	}
	return nil
}

// All returns the points, oldest first. A file that cannot be read is named
// in the error; the other points are returned all the same.
func (r *Record) All() ([]Point, error) {
	entries, err := os.ReadDir(r.dir)
	if err != nil {
		return nil, fmt.Errorf("read the local record of points: %w", err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	type found struct {
		id    ID
		point *readPoint
		err   error
	}
	all := make([]found, 0, len(entries))
	for _, e := range entries {
		name, whole := strings.CutSuffix(e.Name(), ".json")
		if id, err := ParseID(name); whole && err == nil { // else it is being written, or not ours
			all = append(all, found{id: id})
		}
	}
	var reading errgroup.Group
	share := len(all)/runtime.GOMAXPROCS(0) + 1
	for part := range slices.Chunk(all, share) {
		reading.Go(func() error {
			for i := range part {
				part[i].point, part[i].err = r.remembered(part[i].id)
			}
			return nil
		})
	}
	_ = reading.Wait() // each has its own error
	read := make(map[ID]*readPoint, len(all))
	points := make([]Point, 0, len(all))
	var faults []error
	for _, f := range all {
		if f.err != nil {
			faults = append(faults, f.err)
			continue
		}
		read[f.id] = f.point
		points = append(points, f.point.point.clone())
	}
	r.read = read
	slices.SortFunc(points, func(a, b Point) int { return strings.Compare(string(a.ID), string(b.ID)) })
	return points, errors.Join(faults...)
}

// remembered is a point as All read it before, or as its file says now.
func (r *Record) remembered(id ID) (*readPoint, error) {
	file, err := os.Lstat(r.file(id))
	if err != nil || time.Since(file.ModTime()).Abs() < time.Second {
		file = nil // it is gone, or could be replaced by one that looks the same
	}
	before, known := r.read[id]
	if known && file != nil && sameFile(before.file, file) {
		return before, nil
	}
	p, err := r.Get(id)
	return &readPoint{p, file}, err
}

func sameFile(a, b os.FileInfo) bool {
	return a != nil && os.SameFile(a, b) && a.ModTime().Equal(b.ModTime()) && a.Size() == b.Size()
}

// Last returns the newest point that fits, by id, and reads no older one; false
// when none does. A file that cannot be read is passed over, and named in the
// error.
func (r *Record) Last(fits func(Point) bool) (Point, bool, error) {
	entries, err := os.ReadDir(r.dir) // by name, which is by id
	if err != nil {
		return Point{}, false, fmt.Errorf("read the local record of points: %w", err)
	}
	var faults []error
	for _, e := range slices.Backward(entries) {
		name, whole := strings.CutSuffix(e.Name(), ".json")
		id, err := ParseID(name)
		if !whole || err != nil {
			continue
		}
		p, err := r.Get(id)
		if err != nil && !errors.Is(err, ErrUnknown) { // else it was removed meanwhile
			faults = append(faults, err)
		} else if err == nil && fits(p) {
			return p, true, errors.Join(faults...)
		}
	}
	return Point{}, false, errors.Join(faults...)
}

// Get returns one point.
func (r *Record) Get(id ID) (Point, error) {
	var p Point
	text, err := os.ReadFile(r.file(id))
	if errors.Is(err, fs.ErrNotExist) {
		return p, fmt.Errorf("point %s: %w", id, ErrUnknown)
	}
	if err != nil {
		return p, fmt.Errorf("read point %s: %w", id, err)
	}
	if err := json.Unmarshal(text, &p); err != nil {
		return p, advice.With(fmt.Errorf("read point %s: %s is damaged (%w)", id, r.file(id), err), "remove the file: the repository still has what was shipped")
	}
	if p.ID != id {
		return p, advice.With(fmt.Errorf("read point %s: %s speaks of point %s", id, r.file(id), p.ID), "remove the file")
	}
	return p, nil
}

func (r *Record) file(id ID) string { return filepath.Join(r.dir, string(id)+".json") }
