package fstest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"testing"
	"time"

	"snapd/internal/fs"
)

// testRoundTrip restores a nasty tree as it was at each of four instants.
func testRoundTrip(t *testing.T, h Harness) {
	dir, dataset := h.dataset(t, "round trip")
	WriteNastyTree(t, dir)
	WriteBigFile(t, dir, false)
	var chain []link
	var trees []Tree
	var last *fs.Snapshot
	for step := range NastySteps + 1 {
		if step > 0 {
			ChangeNastyTree(t, dir, step)
		}
		trees = append(trees, ReadTree(t, dir))
		s := h.snapshot(t, fmt.Sprint("r", step), dataset)[0]
		l := link{data: h.stream(t, s, last), guid: s.GUID}
		if last != nil {
			l.base = last.GUID
		}
		chain, last = append(chain, l), &s
	}
	for step, want := range trees {
		t.Run(fmt.Sprint("as at step ", step), func(t *testing.T) {
			got := h.restore(t, h.NewTarget(t, fmt.Sprint("round-trip-", step)), chain[:step+1]...)
			CompareTrees(t, want, ReadTree(t, got))
		})
	}
}

// testSkipped builds two streams on one base.
func testSkipped(t *testing.T, h Harness) {
	dir, dataset := h.dataset(t, "skipped")
	m := newMaker(t, dir, 1)
	var made []fs.Snapshot
	for _, name := range []string{"a", "b", "c"} {
		m.file(name, m.random(100_000))
		made = append(made, h.snapshot(t, name, dataset)...)
	}
	got := h.restore(t, h.NewTarget(t, "skipped"),
		link{h.stream(t, made[0], nil), made[0].GUID, ""},
		link{h.stream(t, made[2], &made[0]), made[2].GUID, made[0].GUID})
	Compare(t, dir, got)
}

func testWrongBase(t *testing.T, h Harness) {
	dir, dataset := h.dataset(t, "base")
	m := newMaker(t, dir, 1)
	m.file("a", m.random(100_000))
	first := h.snapshot(t, "a", dataset)[0]
	m.file("b", m.random(100_000))
	second := h.snapshot(t, "b", dataset)[0]
	imposter := first
	imposter.GUID = "11111111-2222-4333-8444-555555555555"
	if _, err := h.Driver.Send(t.Context(), second, &imposter); !errors.Is(err, fs.ErrBase) {
		t.Errorf("send on a base with another GUID: got %v, want ErrBase", err)
	}
	full, step := h.stream(t, first, nil), h.stream(t, second, &first)

	target := h.NewTarget(t, "base")
	r := h.receive(t, target, fs.Placement{})
	refuse := func(what string, l link) {
		t.Helper()
		if err := r.Apply(t.Context(), bytes.NewReader(l.data), l.guid, l.base); !errors.Is(err, fs.ErrBase) {
			t.Errorf("%s: got %v, want ErrBase", what, err)
		}
	}
	refuse("an increment first", link{step, second.GUID, first.GUID})
	refuse("an increment as a full stream", link{step, second.GUID, ""})
	apply(t, r, link{full, first.GUID, ""})
	refuse("a full stream as an increment", link{full, first.GUID, first.GUID})
	refuse("a stream of another snapshot", link{step, imposter.GUID, first.GUID})
	refuse("on a base that was not applied", link{step, second.GUID, imposter.GUID})
	apply(t, r, link{step, second.GUID, first.GUID})
	Compare(t, dir, h.finish(t, r, target))
}

// refused applies a bad stream, sees that nothing is left of it, and that the
// same receiver still takes the good one.
func (h Harness) refused(t *testing.T, name string, s fs.Snapshot, good []byte, bad func() (context.Context, io.Reader), check func(error) bool) {
	t.Helper()
	target := h.NewTarget(t, name)
	r := h.receive(t, target, fs.Placement{})
	before := h.Leftovers(t, target)
	ctx, reader := bad()
	err := r.Apply(ctx, reader, s.GUID, "")
	if err == nil || !check(err) {
		t.Errorf("%s: got error %v", name, err)
	}
	if after := h.Leftovers(t, target); len(after) != len(before) {
		t.Errorf("%s: left over: %q", name, after)
	}
	if h.Exists(t, target) {
		t.Errorf("%s: the target exists", name)
	}
	if _, err := r.Finish(t.Context()); err == nil {
		t.Fatalf("%s: an empty restore is finished", name)
	}
	apply(t, r, link{good, s.GUID, ""})
	h.finish(t, r, target)
}

func testCutStream(t *testing.T, h Harness) {
	s, data := h.full(t, "cut", 5<<20)
	for _, length := range []int{0, 1, 20, len(data) / 2, len(data) - 1000, len(data) - 10, len(data) - 1} {
		name := fmt.Sprint("cut-", length)
		h.refused(t, name, s, data,
			func() (context.Context, io.Reader) { return t.Context(), bytes.NewReader(data[:length]) },
			func(error) bool { return true })
	}
}

func testDamagedStream(t *testing.T, h Harness) {
	s, data := h.full(t, "damaged", 3<<20)
	for _, at := range []int{3, 40, len(data) / 2, len(data) - 5} {
		damaged := bytes.Clone(data)
		damaged[at] ^= 0x10
		h.refused(t, fmt.Sprint("damaged-", at), s, data,
			func() (context.Context, io.Reader) { return t.Context(), bytes.NewReader(damaged) },
			func(error) bool { return true })
	}
	h.refused(t, "something-follows", s, data,
		func() (context.Context, io.Reader) {
			return t.Context(), io.MultiReader(bytes.NewReader(data), bytes.NewReader(data))
		},
		func(error) bool { return true })
}

func testReaderFails(t *testing.T, h Harness) {
	s, data := h.full(t, "reader fails", 5<<20)
	broken := errors.New("the bucket went away")
	for _, length := range []int{0, len(data) / 2, len(data)} {
		h.refused(t, fmt.Sprint("reader-fails-", length), s, data,
			func() (context.Context, io.Reader) {
				return t.Context(), &faulty{bytes.NewReader(data[:length]), func() error { return broken }}
			},
			func(err error) bool { return errors.Is(err, broken) })
	}
}

func testReceiveCancelled(t *testing.T, h Harness) {
	s, data := h.full(t, "receive cancelled", 5<<20)
	before := runtime.NumGoroutine()
	h.refused(t, "receive-cancelled", s, data,
		func() (context.Context, io.Reader) {
			ctx, cancel := cancelled(t)
			return ctx, &faulty{bytes.NewReader(data[:len(data)/2]), func() error {
				cancel()
				<-ctx.Done()
				return ctx.Err()
			}}
		},
		func(err error) bool { return errors.Is(err, context.Canceled) })
	settled(t, before)
}

func testTargetExists(t *testing.T, h Harness) {
	s, data := h.full(t, "exists", 1<<20)
	target := h.NewTarget(t, "exists")
	dir := h.restore(t, target, link{data, s.GUID, ""})
	want := ReadTree(t, dir)
	if _, err := h.Driver.Receive(t.Context(), target, fs.Placement{}); !errors.Is(err, fs.ErrExists) {
		t.Errorf("got %v, want ErrExists", err)
	}
	CompareTrees(t, want, ReadTree(t, dir))
	h.noLeftovers(t, target)

	late := h.NewTarget(t, "exists late") // it appears while the restore runs
	slow := h.receive(t, late, fs.Placement{})
	apply(t, slow, link{data, s.GUID, ""})
	fast := h.receive(t, late, fs.Placement{})
	apply(t, fast, link{data, s.GUID, ""})
	if _, err := fast.Finish(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := slow.Finish(t.Context()); !errors.Is(err, fs.ErrExists) {
		t.Errorf("a target that appeared: got %v, want ErrExists", err)
	}
	if err := firstOf(fast.Close(), slow.Close()); err != nil {
		t.Error(err)
	}
	h.noLeftovers(t, late)
}

func testReplace(t *testing.T, h Harness) {
	_, dataset := h.dataset(t, "replace")
	empty := h.snapshot(t, "e", dataset)[0]
	emptied := link{h.stream(t, empty, nil), empty.GUID, ""}
	s, data := h.full(t, "replace more", 1<<20)
	const suffix = ".before-restore"
	target := h.NewTarget(t, "replaced")
	old := ReadTree(t, h.restore(t, target, emptied))

	r := h.receive(t, target, fs.Placement{ReplaceSuffix: suffix})
	apply(t, r, link{data, s.GUID, ""})
	if h.Exists(t, target+suffix) || !h.Exists(t, target) {
		t.Error("what is at the target is moved before Finish")
	}
	made, err := r.Finish(t.Context())
	if err := firstOf(err, r.Close(), r.Close()); err != nil {
		t.Fatal(err)
	}
	h.noLeftovers(t, target)
	if got := ReadTree(t, h.Show(t, made)); len(got) < 2 {
		t.Errorf("the target holds %v", got)
	}
	moved := made
	moved.Name += suffix
	CompareTrees(t, old, ReadTree(t, h.Show(t, moved)))
	if _, err := h.Driver.Receive(t.Context(), target, fs.Placement{ReplaceSuffix: suffix}); !errors.Is(err, fs.ErrExists) {
		t.Errorf("replace while an earlier one is still there: got %v, want ErrExists", err)
	}
	fresh := h.NewTarget(t, "replaces nothing")
	r = h.receive(t, fresh, fs.Placement{ReplaceSuffix: suffix})
	apply(t, r, link{data, s.GUID, ""})
	h.finish(t, r, fresh)
}

func testReceiverClosed(t *testing.T, h Harness) {
	s, data := h.full(t, "receiver closed", 1<<20)
	target := h.NewTarget(t, "receiver closed")
	r := h.receive(t, target, fs.Placement{})
	apply(t, r, link{data, s.GUID, ""})
	if err := firstOf(r.Close(), r.Close()); err != nil {
		t.Errorf("close twice: %v", err)
	}
	h.noLeftovers(t, target)
	if h.Exists(t, target) {
		t.Error("the target exists though the restore was not finished")
	}
	if err := r.Apply(t.Context(), bytes.NewReader(data), s.GUID, ""); err == nil {
		t.Error("a closed receiver receives")
	}
	if _, err := r.Finish(t.Context()); err == nil {
		t.Error("a closed receiver finishes")
	}
}

func testSendCancelled(t *testing.T, h Harness) {
	s, _ := h.full(t, "send cancelled", 16<<20)
	before := runtime.NumGoroutine()
	ctx, cancel := cancelled(t)
	r, err := h.Driver.Send(ctx, s, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(r, make([]byte, 1000)); err != nil {
		t.Fatal(err)
	}
	cancel()
	within(t, 5*time.Second, "ending a cancelled send", func() {
		if _, err := io.Copy(io.Discard, r); !errors.Is(err, context.Canceled) {
			t.Errorf("got %v, want Canceled", err)
		}
		if err := firstOf(r.Close(), r.Close()); err != nil {
			t.Errorf("close twice: %v", err)
		}
	})
	settled(t, before)
	if err := h.Driver.Delete(t.Context(), s); err != nil {
		t.Errorf("delete what was sent: %v", err)
	}
}

func testSendClosed(t *testing.T, h Harness) {
	s, _ := h.full(t, "send closed", 16<<20)
	before := runtime.NumGoroutine()
	r, err := h.Driver.Send(t.Context(), s, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(r, make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	within(t, 5*time.Second, "closing a sender early", func() {
		if err := firstOf(r.Close(), r.Close()); err != nil {
			t.Errorf("close twice: %v", err)
		}
	})
	settled(t, before)
	if _, err := r.Read(make([]byte, 1)); err == nil || errors.Is(err, io.EOF) {
		t.Errorf("read after close: got %v, want an error that is not an end", err)
	}
	if err := h.Driver.Delete(t.Context(), s); err != nil {
		t.Errorf("delete what was sent: %v", err)
	}
	if _, err := h.Driver.Send(t.Context(), s, nil); !errors.Is(err, fs.ErrNotFound) {
		t.Errorf("send what is deleted: got %v, want ErrNotFound", err)
	}
}

func testFull(t *testing.T, h Harness) {
	s, data := h.full(t, "full", 64<<20)
	target := h.FullTarget(t)
	r := h.receive(t, target, fs.Placement{})
	before := h.Leftovers(t, target)
	err := r.Apply(t.Context(), bytes.NewReader(data), s.GUID, "")
	if !errors.Is(err, fs.ErrNoSpace) {
		t.Errorf("got %v, want ErrNoSpace", err)
	}
	if after := h.Leftovers(t, target); len(after) != len(before) {
		t.Errorf("left over: %q", after)
	}
	if err := r.Close(); err != nil {
		t.Error(err)
	}
	h.noLeftovers(t, target)
	if h.Exists(t, target) {
		t.Error("the target exists")
	}
}
