// Package fstest is the contract of fs.Driver as tests: every driver passes
// the same suite. It also makes and compares the nasty trees by which other
// tests see whether everything came back.
//
// It knows no storage system; what it needs of one the Harness does. Nothing
// outside of tests imports it.
package fstest

import (
	"bytes"
	"context"
	"io"
	"runtime"
	"slices"
	"testing"
	"time"

	"snapd/internal/fs"
)

// Harness does for the suite what a driver does not: it makes what users
// have. Whatever it makes it removes in t.Cleanup.
type Harness struct {
	Driver fs.Driver
	// Names that a dataset may have there, as nasty as the storage allows.
	Names []string
	// NewDataset makes an empty dataset with room for at least 128 MiB (for
	// RunBig 4 GiB), mounted for writing, and returns its directory. Name is
	// one of Names or plain.
	NewDataset func(t testing.TB, name string) (dir string)
	// NewTarget returns a target for a restore that does not exist yet.
	NewTarget func(t testing.TB, name string) string
	// FullTarget is a target on storage with room for less than 48 MiB.
	FullTarget func(t testing.TB) string
	// Show returns a directory where a dataset that was restored can be
	// read; it goes by the dataset's Name.
	Show func(t testing.TB, dataset fs.Dataset) (dir string)
	// Exists says whether a target exists.
	Exists func(t testing.TB, target string) bool
	// Leftovers lists what restores to this target's storage have made and
	// neither handed over nor removed.
	Leftovers func(t testing.TB, target string) []string
}

type part struct {
	name string
	test func(*testing.T, Harness)
}

func parts() []part {
	return []part{
		{"locate", testLocate},
		{"locate what is not there", testLocateNothing},
		{"snapshots", testSnapshots},
		{"snapshot is one instant", testInstant},
		{"several datasets", testSeveral},
		{"prepared is closed", testPrepareClosed},
		{"delete", testDelete},
		{"dataset is gone", testGone},
		{"round trip", testRoundTrip},
		{"skipped increments", testSkipped},
		{"wrong base", testWrongBase},
		{"cut stream", testCutStream},
		{"damaged stream", testDamagedStream},
		{"reader fails", testReaderFails},
		{"target exists", testTargetExists},
		{"replace", testReplace},
		{"receiver is closed", testReceiverClosed},
		{"send is cancelled", testSendCancelled},
		{"send is closed early", testSendClosed},
		{"receive is cancelled", testReceiveCancelled},
		{"target is full", testFull},
		{"health", testHealth},
		{"open", testOpen},
	}
}

// Run runs the whole suite.
func Run(t *testing.T, h Harness) {
	t.Helper()
	for _, p := range parts() {
		t.Run(p.name, func(t *testing.T) { p.test(t, h) })
	}
}

// RunSome runs the named parts of the suite, where all of them take too long
// for every day.
func RunSome(t *testing.T, h Harness, names ...string) {
	t.Helper()
	all := parts()
	for _, name := range names {
		i := slices.IndexFunc(all, func(p part) bool { return p.name == name })
		if i < 0 {
			t.Fatalf("the suite has no part %q", name)
		}
		t.Run(name, func(t *testing.T) { all[i].test(t, h) })
	}
}

// dataset makes one and locates it.
func (h Harness) dataset(t testing.TB, name string) (dir string, dataset fs.Dataset) {
	t.Helper()
	dir = h.NewDataset(t, name)
	place, err := h.Driver.Locate(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	return dir, place.Dataset
}

// snapshot takes one of each dataset.
func (h Harness) snapshot(t testing.TB, id string, datasets ...fs.Dataset) []fs.Snapshot {
	t.Helper()
	p, err := h.Driver.Prepare(t.Context(), nameOf(id), datasets)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	}()
	if err := p.Take(); err != nil {
		t.Fatal(err)
	}
	made, err := p.Result(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if len(made) != len(datasets) {
		t.Fatalf("got %d snapshots, want %d", len(made), len(datasets))
	}
	return made
}

// nameOf is a snapshot's name: all at one time, so that nothing relies on
// that.
func nameOf(id string) string {
	return fs.SnapshotName(time.Date(2026, 11, 21, 10, 11, 12, 0, time.UTC), id)
}

// stream is a whole stream in memory.
func (h Harness) stream(t testing.TB, s fs.Snapshot, base *fs.Snapshot) []byte {
	t.Helper()
	r, err := h.Driver.Send(t.Context(), s, base)
	if err != nil {
		t.Fatal(err)
	}
	data, err := io.ReadAll(r)
	if err := firstOf(err, r.Close()); err != nil {
		t.Fatal(err)
	}
	return data
}

// receive opens a restore that the test closes.
func (h Harness) receive(t testing.TB, target string, placement fs.Placement) fs.Receiver {
	t.Helper()
	r, err := h.Driver.Receive(t.Context(), target, placement)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	})
	return r
}

// link is one stream of a chain.
type link struct {
	data []byte
	guid string
	base string
}

func apply(t testing.TB, r fs.Receiver, chain ...link) {
	t.Helper()
	for _, l := range chain {
		if err := r.Apply(t.Context(), bytes.NewReader(l.data), l.guid, l.base); err != nil {
			t.Fatal(err)
		}
	}
}

// restore receives a chain into a new target and shows it.
func (h Harness) restore(t testing.TB, target string, chain ...link) (dir string) {
	t.Helper()
	r := h.receive(t, target, fs.Placement{})
	apply(t, r, chain...)
	if h.Exists(t, target) {
		t.Error("something is seen at the target before Finish")
	}
	return h.finish(t, r, target)
}

func (h Harness) finish(t testing.TB, r fs.Receiver, target string) (dir string) {
	t.Helper()
	made, err := r.Finish(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Close(); err != nil {
		t.Error(err)
	}
	h.noLeftovers(t, target)
	return h.Show(t, made)
}

func (h Harness) noLeftovers(t testing.TB, target string) {
	t.Helper()
	if left := h.Leftovers(t, target); len(left) > 0 {
		t.Errorf("left over: %q", left)
	}
}

// full makes a dataset of about size bytes that do not compress, a snapshot of
// it and its stream.
func (h Harness) full(t testing.TB, name string, size int) (fs.Snapshot, []byte) {
	t.Helper()
	dir, dataset := h.dataset(t, name)
	m := newMaker(t, dir, 7)
	for rest := size; rest > 0; rest -= 4 << 20 {
		m.file("file "+time.Duration(rest).String(), m.random(min(rest, 4<<20)))
	}
	s := h.snapshot(t, "f", dataset)[0]
	return s, h.stream(t, s, nil)
}

// settled waits until no more goroutines run than before.
func settled(t testing.TB, before int) {
	t.Helper()
	deadline := time.Now().Add(10 * time.Second)
	for runtime.NumGoroutine() > before {
		if time.Now().After(deadline) {
			stacks := make([]byte, 1<<20)
			t.Fatalf("%d goroutines, and %d before:\n%s", runtime.NumGoroutine(), before, stacks[:runtime.Stack(stacks, true)])
		}
		runtime.Gosched()
	}
}

// within fails a test whose step does not end in time.
func within(t testing.TB, limit time.Duration, what string, step func()) {
	t.Helper()
	begin := time.Now()
	step()
	if took := time.Since(begin); took > limit {
		t.Errorf("%s took %v, and %v is the most", what, took, limit)
	}
}

func firstOf(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// faulty is a reader that does something after its data, in place of an end.
type faulty struct {
	data  io.Reader
	after func() error
}

func (f *faulty) Read(p []byte) (int, error) {
	n, err := f.data.Read(p)
	if n == 0 && err == io.EOF {
		return 0, f.after()
	}
	return n, nil
}

// cancelled returns a context and what ends it.
func cancelled(t testing.TB) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(t.Context())
	t.Cleanup(cancel)
	return ctx, cancel
}
