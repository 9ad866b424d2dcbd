package agent

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"snapd/internal/advice"
	"snapd/internal/fs"
	"snapd/internal/point"
)

// ends looks whether nothing is wrong or left over in the repository.
func (b *bench) ends() {
	b.t.Helper()
	if v, err := b.Verify(b.t.Context(), VerifyOptions{}); err != nil || len(v.Problems) > 0 {
		b.t.Errorf("verify: %v, %+v", err, v.Problems)
	}
	if st, err := b.Status(b.t.Context()); err != nil || len(st.Attention)+len(st.Groups[0].Attention) > 0 {
		b.t.Errorf("status: %v, %+v", err, st)
	}
	for _, pattern := range []string{"main/meta/leases/*", "state/ships/*"} {
		if left, err := filepath.Glob(b.path(pattern)); err != nil || len(left) > 0 {
			b.t.Errorf("left over: %q, %v", left, err)
		}
	}
}

// The process that dropped it was killed before it could say so here.
func TestADropIsWrittenDownByTheNext(t *testing.T) {
	b := newBench(t, "", "main")
	p := b.take()
	b.ship()
	b.take()
	b.ship()
	before, err := b.record.Get(p.ID)
	b.check(err)
	for range 2 {
		if _, err := b.Drop(t.Context(), DropOptions{Points: []string{string(p.ID)}}); err != nil {
			t.Fatal(err)
		}
		if q, err := b.record.Get(p.ID); err != nil || q.InRepository("main") {
			t.Errorf("the record says %+v, %v", q.Numbers, err)
		}
		b.check(b.record.Put(before))
	}
}

// A look from the cache takes an older point for there: repair said that it
// would ship it, and did not.
func TestRepairShipsALostOlderPoint(t *testing.T) {
	b := newBench(t, "", "main")
	var lost point.Point
	for i := range 3 {
		p := b.take()
		b.ship()
		if i == 1 {
			lost = p
		}
	}
	b.lose("main/meta/points/0000000002")
	if r, err := b.Repair(t.Context(), RepairOptions{}); err != nil {
		t.Fatalf("%+v, %v", r, err)
	}
	if rec, kept := b.view("main").Point(lost.ID); !kept || rec.Number < 4 {
		t.Errorf("it is kept: %v, as number %d", kept, rec.Number)
	}
	b.ends()
}

// What was read once was believed from then on, so that no ship put it again.
func TestADamagedRecordOfAnOlderPointIsHealed(t *testing.T) {
	for name, find := range map[string]func(b *bench) error{
		"found by verify": func(b *bench) error {
			_, err := b.Verify(t.Context(), VerifyOptions{})
			return unless(err, advice.Damaged)
		},
		"found by list": func(b *bench) error { _, err := b.List(t.Context(), ""); return err },
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t, "", "main")
			for range 3 {
				b.take()
				b.ship()
			}
			_, err := b.List(t.Context(), "") // from here on a change is one
			b.check(err)
			b.spoil("main/meta/points/0000000001")
			b.check(find(b))
			if st, _ := b.status(); len(st.Attention) == 0 {
				t.Error("status does not say it")
			}
			_, err = b.Do(t.Context(), []string{"shop"}, Steps{Ship: true, Prune: true})
			b.check(err)
			b.ends()
		})
	}
}

// unless is the error, but for one of this class.
func unless(err error, class advice.Class) error {
	if errors.Is(err, class) {
		return nil
	}
	return err
}

// A damaged event stopped deletion for good.
func TestADamagedEventIsPutBack(t *testing.T) {
	b := newBench(t, "", "main")
	p := b.take()
	b.ship()
	b.take()
	b.ship()
	_, err := b.Drop(t.Context(), DropOptions{Points: []string{string(p.ID)}})
	b.check(err)
	file := b.path("main/meta/ledger/0000000001")
	want, err := os.ReadFile(file)
	b.check(err)
	for _, spoil := range []func(){func() { b.spoil("main/meta/ledger/0000000001") }, func() { b.lose("main/meta/ledger/0000000001") }} {
		spoil()
		_, _ = b.Verify(t.Context(), VerifyOptions{})
		if r, err := b.Repair(t.Context(), RepairOptions{}); err != nil || len(r.Steps) != 1 || r.Steps[0].Action != RepairPut {
			t.Errorf("%+v, %v", r, err)
		}
		if got, err := os.ReadFile(file); err != nil || string(got) != string(want) {
			t.Errorf("it is not what lay there: %v", err)
		}
		b.ends()
	}
}

// An upload was interrupted, and the next one builds on something else: what
// the first one left would be kept for ever.
func TestAnOvertakenUploadIsGivenUp(t *testing.T) {
	b := newBench(t, "", "main")
	p := b.take()
	b.ship()
	b.take()
	b.storage.Fault = func(call string) error {
		if call == "Send" {
			return fs.ErrNoSpace
		}
		return nil
	}
	if _, err := b.Ship(t.Context(), nil); err == nil {
		t.Fatal("it was not interrupted")
	}
	b.storage.Fault = nil
	if found, _ := filepath.Glob(b.path("main/meta/leases/*")); len(found) != 1 {
		t.Fatalf("leases: %q", found)
	}
	_, err := b.Do(t.Context(), nil, Steps{Ship: true, Full: true})
	b.check(err)
	b.ends()
	if q, err := b.record.Get(p.ID); err != nil || !q.InRepository("main") {
		t.Error(err)
	}
}
