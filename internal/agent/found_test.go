package agent

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"snapd/internal/advice"
	"snapd/internal/point"
)

// spoil overwrites the last byte of what matches.
func (b *bench) spoil(pattern string) {
	b.t.Helper()
	found, err := filepath.Glob(b.path(pattern))
	b.check(err)
	if len(found) == 0 {
		b.t.Fatalf("nothing is called %s", pattern)
	}
	for _, f := range found {
		b.check(os.Chmod(f, 0o600))
		text, err := os.ReadFile(f)
		b.check(err)
		text[len(text)-1] ^= 1
		b.check(os.WriteFile(f, text, 0o600))
	}
}

func (b *bench) status() (Status, GroupStatus) {
	b.t.Helper()
	st, err := b.Status(b.t.Context())
	b.check(err)
	return st, st.Groups[0]
}

func (b *bench) states(id point.ID) []string {
	b.t.Helper()
	points, err := b.List(b.t.Context(), "")
	b.check(err)
	var out []string
	for _, p := range points {
		if p.ID == id {
			for _, s := range p.States {
				out = append(out, s.State)
			}
		}
	}
	return out
}

// What verify finds is seen by status and list, until it was shipped anew and
// is found whole: number 6 of the issue.
func TestDamageIsRemembered(t *testing.T) {
	b := newBench(t, "", "main")
	var ids []point.ID
	for range 3 {
		ids = append(ids, b.take().ID)
		b.ship()
	}
	first := b.view("main").Points[0].Streams[0].Stream
	b.spoil("main/data/" + string(first) + "/*")
	v, err := b.Verify(t.Context(), VerifyOptions{})
	if !errors.Is(err, advice.Damaged) || len(v.Problems) == 0 {
		t.Fatalf("verify: %+v, %v", v, err)
	}
	if got := v.Problems[0].Points; !slices.Equal(got, ids) {
		t.Errorf("damage reaches %v, want all of %v", got, ids)
	}
	st, g := b.status()
	if len(g.Damaged) != 3 || !strings.Contains(strings.Join(g.Attention, "\n"), "3 restore points are damaged in main") {
		t.Errorf("status: %+v", g)
	}
	if strings.Contains(strings.Join(g.Attention, "\n"), "never verified") || st.Repositories[0].Verified == nil {
		t.Errorf("status forgot the verification: %+v", st)
	}
	if got := b.states(ids[2]); !slices.Equal(got, []string{point.Damaged}) {
		t.Errorf("list: %v", got)
	}
	if len(b.view("main").Damage()) == 0 {
		t.Error("another host does not see the damage")
	}
	if e, err := b.Examine(t.Context(), "main"); err != nil || len(e.Damaged) != 3 {
		t.Errorf("examined: %+v, %v", e, err)
	}
	b.ship() // heals
	if _, g := b.status(); len(g.Damaged) != 0 {
		t.Errorf("status after the healing: %+v", g)
	}
	if v, err := b.Verify(t.Context(), VerifyOptions{}); err != nil {
		t.Errorf("verify after the healing: %+v, %v", v, err)
	}
	if got := b.states(ids[2]); len(got) != 0 {
		t.Errorf("list after the healing: %v", got)
	}
}

// Points that are gone from the bucket are a loss and no clean repository:
// number 7 of the issue.
func TestTheNewestPointsAreGone(t *testing.T) {
	b := newBench(t, "", "main")
	var ids []point.ID
	for range 3 {
		ids = append(ids, b.take().ID)
		b.ship()
	}
	b.lose("main/meta/points/0000000002")
	b.lose("main/meta/points/0000000003")
	v, err := b.Verify(t.Context(), VerifyOptions{})
	if !errors.Is(err, advice.Damaged) || len(v.Problems) != 2 {
		t.Fatalf("verify: %+v, %v", v, err)
	}
	if _, g := b.status(); !slices.Equal(g.Lost, ids[1:]) {
		t.Errorf("status: %+v", g)
	}
	if got := b.states(ids[2]); !slices.Contains(got, point.Lost) {
		t.Errorf("list: %v", got)
	}
	if r, err := b.Repair(t.Context(), RepairOptions{Plan: true}); err != nil || len(r.Steps) < 2 {
		t.Errorf("plan: %+v, %v", r, err)
	}
	if r, err := b.Repair(t.Context(), RepairOptions{AcceptLoss: true}); err != nil {
		t.Errorf("repair: %+v, %v", r, err)
	}
	if got := b.states(ids[2]); len(got) != 0 {
		t.Errorf("list after the repair: %v", got)
	}
	if st, g := b.status(); len(g.Lost)+len(st.Repositories[0].Problems) != 0 {
		t.Errorf("status after the repair: %+v", st)
	}
	if v, err := b.Verify(t.Context(), VerifyOptions{}); err != nil || v.Checked.Points != 3 {
		t.Errorf("verify after the repair: %+v, %v", v, err)
	}
}

func TestJunkIsOnlyRemovedWhenAllowed(t *testing.T) {
	b := newBench(t, "", "main")
	b.take()
	b.ship()
	junk := b.path("main/meta/points/0000000002")
	b.check(os.WriteFile(junk, []byte("no point"), 0o600))
	r, err := b.Repair(t.Context(), RepairOptions{})
	if !errors.Is(err, NotRemoved) || len(r.Steps) != 1 || r.Steps[0].Allowed {
		t.Fatalf("%+v, %v", r, err)
	}
	if _, err := os.Stat(junk); err != nil {
		t.Fatal(err)
	}
	if r, err := b.Repair(t.Context(), RepairOptions{RemoveJunk: true}); err != nil {
		t.Fatalf("%+v, %v", r, err)
	}
	if _, err := os.Stat(junk); err == nil {
		t.Error("it is still there")
	}
	if st, _ := b.status(); len(st.Attention) != 0 {
		t.Errorf("%+v", st)
	}
}

func TestDrop(t *testing.T) {
	b := newBench(t, "", "main")
	var ids []point.ID
	for range 3 {
		ids = append(ids, b.take().ID)
		b.ship()
	}
	if _, err := b.Pin(t.Context(), []string{string(ids[1])}); err != nil {
		t.Fatal(err)
	}
	if got := b.states(ids[1]); !slices.Equal(got, []string{point.Pinned}) {
		t.Errorf("list: %v", got)
	}
	name := func(ids ...point.ID) (out []string) {
		for _, id := range ids {
			out = append(out, string(id))
		}
		return out
	}
	if d, err := b.Drop(t.Context(), DropOptions{Points: name(ids...)}); !errors.Is(err, advice.Usage) || len(d.Drop) != 0 {
		t.Errorf("a pinned point: %+v, %v", d, err)
	}
	if _, err := b.Unpin(t.Context(), name(ids[1])); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Drop(t.Context(), DropOptions{Points: name(ids...)}); !errors.Is(err, LastOfGroup) {
		t.Errorf("the last of its group: %v", err)
	}
	if _, err := b.Drop(t.Context(), DropOptions{Points: []string{"latest"}}); !errors.Is(err, advice.Usage) {
		t.Errorf("latest: %v", err)
	}
	if d, err := b.Drop(t.Context(), DropOptions{Points: name(ids[2]), DryRun: true}); err != nil || len(d.Drop) != 2 || d.Bytes == 0 || b.snaps() != 3 {
		t.Errorf("dry run: %+v, %v, %d snapshots", d, err, b.snaps())
	}
	if d, err := b.Drop(t.Context(), DropOptions{Points: name(ids[2])}); err != nil || len(d.Drop) != 2 || d.Bytes == 0 {
		t.Errorf("%+v, %v", d, err)
	}
	if b.snaps() != 2 || len(b.view("main").Points) != 2 {
		t.Errorf("left: %d snapshots, %d points", b.snaps(), len(b.view("main").Points))
	}
	if p := b.ship(); len(p) != 0 {
		t.Errorf("it was shipped again: %+v", p)
	}
	// A point on which another one builds goes; its stream and snapshot stay.
	d, err := b.Drop(t.Context(), DropOptions{Points: name(ids[0])})
	if err != nil || len(d.Keep) != 1 || b.snaps() != 2 {
		t.Errorf("a base: %+v, %v, %d snapshots", d, err, b.snaps())
	}
	if got := b.states(ids[0]); !slices.Equal(got, []string{point.Removed}) {
		t.Errorf("list: %v", got)
	}
	if v, err := b.Verify(t.Context(), VerifyOptions{}); err != nil || v.Checked.Points != 1 {
		t.Errorf("%+v, %v", v, err)
	}
}

// A point that was taken while the clock was wrong is called so, and can be
// dropped: number 9 of the issue.
func TestAPointOfTheFuture(t *testing.T) {
	b := newBench(t, "", "main")
	b.take()
	b.ship()
	now := b.now
	b.now = b.now.Add(365 * day)
	wrong := b.take()
	b.ship()
	b.now = now.Add(time.Hour)
	if got := b.states(wrong.ID); !slices.Equal(got, []string{point.Future}) {
		t.Errorf("list: %v", got)
	}
	_, g := b.status()
	if !slices.Equal(g.Future, []point.ID{wrong.ID}) || g.NewestLocal.After(b.now) || g.NewestShipped.After(b.now) {
		t.Errorf("status: %+v", g)
	}
	if e, err := b.Examine(t.Context(), "main"); err != nil || len(e.Future) != 1 || !e.Room.Known() {
		t.Errorf("examined: %+v, %v", e, err)
	}
	if _, err := b.Drop(t.Context(), DropOptions{Points: []string{string(wrong.ID)}}); err != nil {
		t.Fatal(err)
	}
	if _, g := b.status(); len(g.Future) != 0 {
		t.Errorf("status after the drop: %+v", g)
	}
}
