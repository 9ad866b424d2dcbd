package fstest

import (
	"io"
	"testing"

	"snapd/internal/fs"
)

// RunBig moves 3 GiB of real data, full and as an increment, straight from
// Send into a receiver. It takes its time and about 7 GiB of the harness's
// storage, and so it is not part of Run.
func RunBig(t *testing.T, h Harness) {
	t.Helper()
	dir, dataset := h.dataset(t, "big")
	WriteBigFile(t, dir, true)
	first := h.snapshot(t, "a", dataset)[0]
	m := newMaker(t, dir, 9)
	m.writeAt(bigName, m.random(1<<20), 1<<31-1000)
	second := h.snapshot(t, "b", dataset)[0]
	target := h.NewTarget(t, "big")
	r := h.receive(t, target, fs.Placement{})
	h.pass(t, r, first, nil)
	h.pass(t, r, second, &first)
	Compare(t, dir, h.finish(t, r, target))
}

// pass sends into a receiver without keeping anything.
func (h Harness) pass(t testing.TB, r fs.Receiver, s fs.Snapshot, base *fs.Snapshot) {
	t.Helper()
	stream, err := h.Driver.Send(t.Context(), s, base)
	if err != nil {
		t.Fatal(err)
	}
	guid := ""
	if base != nil {
		guid = base.GUID
	}
	if err := firstOf(r.Apply(t.Context(), io.Reader(stream), s.GUID, guid), stream.Close()); err != nil {
		t.Fatal(err)
	}
}
