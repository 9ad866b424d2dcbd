package fstest

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	iofs "io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"

	"snapd/internal/fs"

	"golang.org/x/sys/unix"
)

// memoryStage begins the names of trees that are about to be handed over.
const memoryStage = ".being-restored-"

// Receive implements fs.Driver. A target is the path of a directory.
func (m *Memory) Receive(ctx context.Context, target string, placement fs.Placement) (fs.Receiver, error) {
	if err := m.enter(ctx, "Receive"); err != nil {
		return nil, err
	}
	if !filepath.IsAbs(target) || filepath.Clean(target) != target {
		return nil, fmt.Errorf("%q is no target", target)
	}
	if _, err := os.Lstat(filepath.Dir(target)); err != nil {
		return nil, err
	}
	r := &memoryReceiver{m: m, target: target, placement: placement}
	if err := r.free(); err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.building == nil {
		m.building = map[*memoryReceiver]bool{}
	}
	m.building[r] = true
	noted := notedReceiver{r}
	switch {
	case m.Continues:
		return continuingReceiver{noted}, nil
	case len(m.ReceiverNotes) > 0:
		return noted, nil
	}
	return r, nil
}

// memoryReceiver keeps what it was given in memory until Finish.
type memoryReceiver struct {
	m         *Memory
	target    string
	placement fs.Placement
	applied   []received
	used      int64
	closed    bool // also after Finish

	expected map[string]string
	keeps    bool   // Continue was called
	part     []byte // of the stream that comes next
	stopped  bool   // its source failed or its context ended, and what is there is kept
}

type received struct {
	guid  string
	image image
}

// keptRestore is what an interrupted restore left.
type keptRestore struct {
	applied []received
	part    []byte
}

var (
	_ fs.Receiver  = (*memoryReceiver)(nil)
	_ fs.Noter     = notedReceiver{}
	_ fs.Expecter  = continuingReceiver{}
	_ fs.Roomer    = continuingReceiver{}
	_ fs.Continuer = continuingReceiver{}
)

// Leftovers are what restores below a directory keep, one for each stream.
func (m *Memory) Leftovers(dir string) []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	var out []string
	for r := range m.building {
		if isBelow(r.target, dir) {
			for _, a := range r.applied {
				out = append(out, a.guid+" for "+r.target)
			}
		}
	}
	found, err := filepath.Glob(filepath.Join(filepath.Dir(dir), memoryStage+"*"))
	if err != nil {
		out = append(out, err.Error())
	}
	return append(out, found...)
}

// free checks that nothing is in the way.
func (r *memoryReceiver) free() error {
	taken := func(path string) error {
		_, err := os.Lstat(path)
		switch {
		case err == nil:
			return fmt.Errorf("%s: %w", path, fs.ErrExists)
		case errors.Is(err, iofs.ErrNotExist):
			return nil
		}
		return err
	}
	if r.placement.ReplaceSuffix != "" {
		return taken(r.target + r.placement.ReplaceSuffix)
	}
	return taken(r.target)
}

// Apply implements fs.Receiver. A stream has to build on the last one.
func (r *memoryReceiver) Apply(ctx context.Context, stream io.Reader, guid, base string) error {
	if err := r.apply(ctx, stream, guid, base); err != nil {
		return fmt.Errorf("receive snapshot %s for %s: %w", guid, r.target, err)
	}
	return nil
}

func (r *memoryReceiver) apply(ctx context.Context, stream io.Reader, guid, base string) error {
	if r.closed {
		return os.ErrClosed
	}
	if err := r.m.enter(ctx, "Apply"); err != nil {
		return err
	}
	source := &remembering{r: stream}
	im, err := decodeStream(ctx, source, func(h streamHead) (image, error) {
		var last received
		if n := len(r.applied); n > 0 {
			last = r.applied[n-1]
		}
		if h.GUID != guid || h.Base != base || base != last.guid {
			return nil, fmt.Errorf("the stream makes %s from %q, and %q is there: %w", h.GUID, h.Base, last.guid, fs.ErrBase)
		}
		return last.image, nil
	})
	if err != nil {
		if r.keeps && (source.failed || ctx.Err() != nil) {
			r.part, r.stopped = source.read.Bytes(), true
		}
		return err
	}
	size := int64(source.read.Len())
	for dir, room := range r.m.Room {
		if isBelow(r.target, dir) && r.used+size > room {
			return fmt.Errorf("%d bytes: %w", size, fs.ErrNoSpace)
		}
	}
	r.m.mu.Lock()
	defer r.m.mu.Unlock()
	r.used += size
	r.applied = append(r.applied, received{guid, im})
	return nil
}

// remembering keeps what was read, and whether the source failed.
type remembering struct {
	r      io.Reader
	read   bytes.Buffer
	failed bool
}

func (s *remembering) Read(p []byte) (int, error) {
	n, err := s.r.Read(p)
	s.read.Write(p[:n])
	s.failed = s.failed || err != nil && !errors.Is(err, io.EOF)
	return n, err
}

// Finish implements fs.Receiver.
func (r *memoryReceiver) Finish(ctx context.Context) (_ fs.Dataset, err error) {
	if r.closed || len(r.applied) == 0 {
		return fs.Dataset{}, fmt.Errorf("finish %s: %w", r.target, os.ErrClosed)
	}
	if err := r.m.enter(ctx, "Finish"); err != nil {
		return fs.Dataset{}, err
	}
	if err := r.free(); err != nil {
		return fs.Dataset{}, err
	}
	stage := filepath.Join(filepath.Dir(r.target), memoryStage+newGUID())
	defer func() {
		if err != nil {
			err = errors.Join(err, os.RemoveAll(stage))
		}
	}()
	if err := r.applied[len(r.applied)-1].image.write(stage); err != nil {
		return fs.Dataset{}, err
	}
	r.m.mu.Lock()
	defer r.m.mu.Unlock()
	if suffix := r.placement.ReplaceSuffix; suffix != "" {
		err := moveTo(r.target, r.target+suffix)
		if err != nil && !errors.Is(err, iofs.ErrNotExist) {
			return fs.Dataset{}, err
		}
		for _, d := range r.m.datasets {
			if d.Name == r.target && !d.gone {
				d.Name += suffix
			}
		}
	}
	if err := moveTo(stage, r.target); err != nil {
		return fs.Dataset{}, err
	}
	r.closed = true
	delete(r.m.building, r)
	return r.m.add(r.target), nil
}

func moveTo(from, to string) error {
	err := unix.Renameat2(unix.AT_FDCWD, from, unix.AT_FDCWD, to, unix.RENAME_NOREPLACE)
	if errors.Is(err, unix.EEXIST) {
		return fmt.Errorf("%s: %w", to, fs.ErrExists)
	}
	return err
}

// Close implements fs.Receiver.
func (r *memoryReceiver) Close() error {
	r.m.mu.Lock()
	defer r.m.mu.Unlock()
	if r.stopped && !r.closed {
		if r.m.kept == nil {
			r.m.kept = map[string]*keptRestore{}
		}
		r.m.kept[r.wanted()] = &keptRestore{r.applied, r.part}
	}
	r.closed = true
	delete(r.m.building, r)
	return nil
}

func (r *memoryReceiver) wanted() string { return cmp.Or(r.placement.Wanted, r.target) }

// notedReceiver is a receiver with fs.Noter, continuingReceiver one with
// fs.Expecter and fs.Continuer too.
type (
	notedReceiver      struct{ *memoryReceiver }
	continuingReceiver struct{ notedReceiver }
)

func (r notedReceiver) Notes() []string { return r.m.ReceiverNotes }

// Expect implements fs.Expecter.
func (r continuingReceiver) Expect(ctx context.Context, properties map[string]string) error {
	if r.expected != nil || len(r.applied) > 0 {
		return errors.New("what is expected was said, or comes after the first stream")
	}
	r.expected = properties
	return r.m.enter(ctx, "Expect")
}

// Room implements fs.Roomer: of Memory.Room for the directory, and of the size that
// Expect was told as referenced.
func (r continuingReceiver) Room() (place string, needed, free int64) {
	for dir, room := range r.m.Room {
		if isBelow(r.target, dir) {
			needed, _ = strconv.ParseInt(r.expected["referenced"], 10, 64) // 0: it needs nothing that is known
			return dir, needed, room
		}
	}
	return "", 0, 0
}

// Continue implements fs.Continuer.
func (r continuingReceiver) Continue(ctx context.Context, chain []string) (whole int, part bool, err error) {
	if r.keeps || len(r.applied) > 0 {
		return 0, false, errors.New("going on comes before the first stream, once")
	}
	if err := r.m.enter(ctx, "Continue"); err != nil {
		return 0, false, err
	}
	r.keeps = true
	r.m.mu.Lock()
	defer r.m.mu.Unlock()
	kept := r.m.kept[r.wanted()]
	delete(r.m.kept, r.wanted())
	if kept == nil || len(kept.applied) > len(chain) {
		return 0, false, nil
	}
	for i, a := range kept.applied {
		if a.guid != chain[i] {
			return 0, false, nil
		}
	}
	r.applied, r.part = slices.Clone(kept.applied), kept.part
	if len(r.applied) == len(chain) {
		r.part = nil
	}
	return len(r.applied), len(r.part) > 0, nil
}

// ApplyRest implements fs.Continuer.
func (r continuingReceiver) ApplyRest(ctx context.Context, open func(from int64) (io.ReadCloser, int64, error), guid, base string) error {
	part := r.part
	if len(part) == 0 {
		return errors.New("there is no part of a stream")
	}
	rest, at, err := open(int64(len(part)))
	if err != nil {
		r.stopped = true
		return err
	}
	r.part = nil
	defer func() { _ = rest.Close() }()
	if at > int64(len(part)) {
		return fmt.Errorf("the rest begins at byte %d, and %d are there", at, len(part))
	}
	return r.Apply(ctx, io.MultiReader(bytes.NewReader(part[:at]), rest), guid, base)
}

// Kept implements fs.Continuer.
func (r continuingReceiver) Kept() string {
	if !r.stopped {
		return ""
	}
	return "memory for " + r.wanted()
}
