package agent

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"snapd/internal/fs"
	"snapd/internal/fs/fstest"
	"snapd/internal/ship"
)

// chain takes and ships three points of a changing dataset, and returns what it
// was like at each of them.
func (b *bench) chain() []fstest.Tree {
	b.t.Helper()
	var trees []fstest.Tree
	for _, text := range []string{"first", "second", "third"} {
		b.write("file", text)
		b.write("big", strings.Repeat(text, 100_000))
		trees = append(trees, fstest.ReadTree(b.t, b.path("data")))
		b.take()
		b.ship()
	}
	return trees
}

func (b *bench) restored(o RestoreOptions) string {
	b.t.Helper()
	got, err := b.Restore(b.t.Context(), o)
	b.check(err)
	return got[0].Target
}

// TestRestoreBringsEveryPointBack: from the repository by its chain, and from
// what lies here.
func TestRestoreBringsEveryPointBack(t *testing.T) {
	b := newBench(t, "", "main")
	want := b.chain()
	points, err := b.List(t.Context(), "shop")
	b.check(err)
	for i, p := range points {
		for _, from := range []string{"main", Local} {
			target := b.path(from + string(p.ID))
			got := b.restored(RestoreOptions{Point: string(p.ID), To: "btrfs:" + target, Repository: from})
			fstest.CompareTrees(t, want[i], fstest.ReadTree(t, got))
		}
	}
	_, err = b.Verify(t.Context(), VerifyOptions{Deep: true, Check: func(_ string, r io.Reader) error { return fstest.CheckStream(t.Context(), r) }})
	b.check(err)
}

// TestRestoreBesideAndInPlace: what exists at a target stays whole, whichever of
// the two was asked for.
func TestRestoreBesideAndInPlace(t *testing.T) {
	b := newBench(t, "", "main")
	want := b.chain()
	target := b.path("target")
	o := RestoreOptions{Point: "latest", To: "btrfs:" + target, Repository: "main"}
	b.restored(o)
	b.check(os.WriteFile(filepath.Join(target, "mine"), []byte("mine"), 0o600))
	mine := fstest.ReadTree(t, target)
	if _, err := b.Restore(t.Context(), o); !errors.Is(err, fs.ErrExists) {
		t.Errorf("onto what exists: %v", err)
	}
	o.Beside = true
	beside := b.restored(o)
	if !strings.HasPrefix(beside, target+".restored-") {
		t.Errorf("beside is %s", beside)
	}
	fstest.CompareTrees(t, want[2], fstest.ReadTree(t, beside))
	fstest.CompareTrees(t, mine, fstest.ReadTree(t, target))
	o.Beside, o.Replace = false, true
	fstest.CompareTrees(t, want[2], fstest.ReadTree(t, b.restored(o)))
	moved, err := filepath.Glob(target + ".before-*")
	if err != nil || len(moved) != 1 {
		t.Fatalf("moved to %q, %v", moved, err)
	}
	fstest.CompareTrees(t, mine, fstest.ReadTree(t, moved[0]))
}

// TestAnInterruptedRestoreGoesOn: also beside what exists, where the new name is
// another one each time.
func TestAnInterruptedRestoreGoesOn(t *testing.T) {
	b := newBench(t, "", "main")
	want := b.chain()
	b.storage.Continues = true
	b.Drivers[fs.Btrfs] = struct {
		*fstest.Memory
		*fstest.Interrupting
	}{b.storage, fstest.NewInterrupting(b.storage)}
	target := b.path("target")
	b.check(os.Mkdir(target, 0o700))
	o := RestoreOptions{Point: "latest", To: "btrfs:" + target, Repository: "main", Beside: true}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	applied := 0
	b.storage.Fault = func(call string) error {
		if call == "Apply" {
			if applied++; applied == 2 {
				cancel()
			}
		}
		return nil
	}
	if _, err := b.Restore(ctx, o); !errors.Is(err, context.Canceled) {
		t.Fatalf("got %v", err)
	}
	b.storage.Fault = nil
	status, err := b.Status(t.Context())
	b.check(err)
	if !slices.ContainsFunc(status.Attention, func(s string) bool {
		return strings.Contains(s, "an interrupted restore to "+target+" waits: 1 streams")
	}) {
		t.Errorf("status says %q", status.Attention)
	}
	var steps []string
	b.Report = func(e Event) { steps = append(steps, e.Text) }
	b.now = b.now.Add(day)
	got := b.restored(o)
	fstest.CompareTrees(t, want[2], fstest.ReadTree(t, got))
	if !slices.ContainsFunc(steps, func(s string) bool { return strings.Contains(s, "1 of 3 streams is there") }) {
		t.Errorf("it did not go on: %q", steps)
	}
}

// TestRestoreRefusesADamagedChain: nothing is seen at the target, and nothing is
// left behind.
func TestRestoreRefusesADamagedChain(t *testing.T) {
	b := newBench(t, "", "main")
	b.chain()
	segments, err := filepath.Glob(b.path("main/data/*/*"))
	if err != nil || len(segments) == 0 {
		t.Fatalf("segments: %q, %v", segments, err)
	}
	data, err := os.ReadFile(segments[0])
	b.check(err)
	data[len(data)/2] ^= 1
	b.check(os.WriteFile(segments[0], data, 0o600))
	target := b.path("target")
	if _, err := b.Restore(t.Context(), RestoreOptions{Point: "latest", To: "btrfs:" + target, Repository: "main"}); !errors.Is(err, ship.ErrDamaged) {
		t.Errorf("got %v", err)
	}
	if _, err := os.Lstat(target); !errors.Is(err, os.ErrNotExist) || len(b.storage.Leftovers(target)) > 0 {
		t.Errorf("the target: %v; left over: %q", err, b.storage.Leftovers(target))
	}
}
