package ship_test

import (
	"context"
	"errors"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"snapd/internal/advice"
	"snapd/internal/point"
	"snapd/internal/ship"
	"snapd/internal/ship/shiptest"
)

// liar is a store whose listings hide, repeat, reorder and invent keys.
type liar struct {
	ship.Store
	hide    func(key string) bool
	invent  []string
	turned  bool // from the last to the first, each twice
	listing int  // how many were asked for
}

func (l *liar) List(ctx context.Context, prefix string, each func(ship.Object) error) error {
	l.listing++
	var all []ship.Object
	err := l.Store.List(ctx, prefix, func(o ship.Object) error {
		if l.hide == nil || !l.hide(o.Key) {
			all = append(all, o)
		}
		return nil
	})
	for _, key := range l.invent {
		if strings.HasPrefix(key, prefix) {
			all = append(all, ship.Object{Key: key, Size: 7})
		}
	}
	if l.turned {
		slices.Reverse(all)
		all = append(all, all...)
	}
	for _, o := range all {
		if err == nil {
			err = each(o)
		}
	}
	return err
}

func openCache(t *testing.T, dir string) *ship.Cache {
	t.Helper()
	c, err := ship.OpenCache(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func look(t *testing.T, r *ship.Repository, c *ship.Cache, how ship.Look) *ship.View {
	t.Helper()
	v, err := r.View(t.Context(), c, how)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// TestAListingHidesOneKey: whichever key of meta/ is hidden from every
// listing, nothing that a kept point needs is deleted, and what is asked for
// by name is found.
func TestAListingHidesOneKey(t *testing.T) {
	_, pristine, _, _ := aged(t)
	for i := range pristine.Keys("meta/") {
		b, store, points, _ := aged(t)
		hidden := store.Keys("meta/")[i]
		b.store = &liar{Store: store, hide: func(key string) bool { return key == hidden }}
		got, err := b.host().Prune(t.Context(), nil, points[:2], later())
		b.store = store
		if err == nil && (!slices.Equal(got.Points, points[:2]) || len(got.Streams) != 1) {
			t.Errorf("hidden %s: %+v", hidden, got)
		}
		if c := verifyClean(t, b); c.Points != 2 && err == nil {
			t.Errorf("hidden %s: left %+v, %v", hidden, c, err)
		}
	}
}

// TestListingsThatLie: none of them makes a prune delete what is needed.
func TestListingsThatLie(t *testing.T) {
	junk := "meta/streams/00000000000000zz.origin-1.g1.full.0.0"
	for name, lie := range map[string]liar{
		"an empty one":    {hide: func(string) bool { return true }},
		"no streams":      {hide: func(key string) bool { return strings.HasPrefix(key, "meta/streams/") }},
		"no points":       {hide: func(key string) bool { return strings.HasPrefix(key, "meta/points/") }},
		"turned":          {turned: true},
		"invented":        {invent: []string{"meta/points/9999999999", "meta/ledger/0000000007", junk, "meta/what"}},
		"half of it":      {hide: func(key string) bool { return key[len(key)-1]%2 == 0 }},
		"turned and more": {turned: true, invent: []string{"meta/points/0000000077"}},
	} {
		b, store, points, _ := aged(t)
		lie.Store = store
		b.store = &lie
		got, err := b.host().Prune(t.Context(), nil, points[:2], later())
		b.store = store
		v := look(t, b.host(), nil, ship.Whole)
		if v.Highest() != 4 {
			t.Errorf("%s: highest is %d", name, v.Highest())
		}
		want := 4
		if err == nil {
			want = 2
		}
		if c := verifyClean(t, b); c.Points != want {
			t.Errorf("%s: left %+v, got %+v, %v", name, c, got, err)
		}
	}
}

// TestJunkDecidesNothing: objects that do not verify are named, stop deletion,
// raise no number, and hide no stream.
func TestJunkDecidesNothing(t *testing.T) {
	b, store, points, streams := aged(t)
	for _, key := range []string{
		"meta/points/9999999999",
		"meta/streams/" + string(streams[0].ID) + ".0.0.full.0.0",
		"meta/points/0000000005", "meta/ledger/0000000001",
	} {
		store.Tamper(key, []byte("junk"))
	}
	before := store.Keys("")
	v := look(t, b.host(), nil, ship.Whole)
	if v.Highest() != 4 || len(v.Points) != 4 || len(v.Problems) != 4 || !v.Whole(streams[2].ID) {
		t.Errorf("highest %d, %d points, problems %+v", v.Highest(), len(v.Points), v.Problems)
	}
	if _, err := b.host().Prune(t.Context(), nil, points[:2], later()); !errors.Is(err, advice.Damaged) || !slices.Equal(store.Keys(""), before) {
		t.Errorf("prune: %v", err)
	}
	w := b.host()
	rec := record(t, streams[3])
	if n, err := w.PutPoint(t.Context(), rec, v); err != nil || n != 6 {
		t.Errorf("put above junk: number %d, %v, want 6", n, err)
	}
	if err := w.Pin(t.Context(), v, points[:1]); err != nil || !v.Pinned(points[0]) || store.Object("meta/ledger/0000000002") == nil {
		t.Errorf("an event above junk: %v", err)
	}
	if again := look(t, b.host(), nil, ship.Whole); again.Highest() != 6 || !again.Pinned(points[0]) {
		t.Errorf("highest %d, pinned %v", again.Highest(), again.Pinned(points[0]))
	}
}

// TestLostPointsAreNoticed: what was seen before, what others name, and what
// lies between is missed by name.
func TestLostPointsAreNoticed(t *testing.T) {
	b, store, points, _ := aged(t)
	dir := filepath.Join(t.TempDir(), "cache")
	w := b.host()
	look(t, w, openCache(t, dir), ship.Whole)
	store.Tamper("meta/points/0000000003", nil)
	store.Tamper("meta/points/0000000004", nil)
	for _, how := range []ship.Look{ship.Known, ship.Whole} {
		v := look(t, b.host(), openCache(t, dir), how)
		if len(v.Lost()) == 0 || v.Lost()[len(v.Lost())-1].ID != points[3] || v.Highest() != 4 || !hasProblem(v, "rolled back: point number 4") {
			t.Errorf("look %d: lost %d, highest %d, problems %+v", how, len(v.Lost()), v.Highest(), v.Problems)
		}
	}
	// Without a memory the end is not missed, the middle is.
	if v := look(t, b.host(), nil, ship.Whole); v.Highest() != 2 || len(v.Problems) != 0 {
		t.Errorf("without a memory: highest %d, %+v", v.Highest(), v.Problems)
	}
	v := look(t, w, openCache(t, dir), ship.Whole)
	if err := w.Absent(t.Context(), v, []int64{3, 4}); err != nil || len(v.Problems) != 0 || v.Highest() != 4 {
		t.Errorf("written down as absent: %v, %+v", err, v.Problems)
	}
	if err := w.Absent(t.Context(), v, []int64{2}); !errors.Is(err, ship.ErrExists) {
		t.Errorf("one that is there: got %v", err)
	}
	if v := look(t, b.host(), nil, ship.Whole); v.Highest() != 4 || len(v.Problems) != 0 {
		t.Errorf("another host: highest %d, %+v", v.Highest(), v.Problems)
	}
}

func hasProblem(v *ship.View, text string) bool {
	return slices.ContainsFunc(v.Problems, func(p ship.Problem) bool { return strings.Contains(p.Problem, text) })
}

func record(t *testing.T, streams ...ship.Stream) ship.PointRecord {
	t.Helper()
	rec := ship.PointRecord{ID: point.NewID(time.Now()), Host: "host-1", Time: time.Now(), Consistency: point.Crash, Secret: ship.Secret{Group: "shop"}}
	for _, s := range streams {
		ps, err := s.InPoint("btrfs")
		if err != nil {
			t.Fatal(err)
		}
		rec.Streams = append(rec.Streams, ps)
	}
	return rec
}

// TestAHigherRecordHeals: a stream that was lost is shipped anew; the point is
// put again, what builds on the lost stream reads the new one, and a prune
// removes what is superseded.
func TestAHigherRecordHeals(t *testing.T) {
	b, store, points, streams := aged(t)
	store.Tamper(streams[0].Key, nil) // the base of s2 and s3
	v := look(t, b.host(), nil, ship.Whole)
	if d := v.Damage(); len(d) != 1 || d[0].Stream != streams[0].ID || !slices.Equal(d[0].Points, points) {
		t.Fatalf("damage: %+v, want all points named", d)
	}
	w := b.host()
	if err := w.NoteDamage(t.Context(), v, v.Damage()); err != nil || len(v.Damage()) != 1 {
		t.Fatal(err)
	}
	if v.Whole(streams[1].ID) {
		t.Error("a stream on a missing base is whole")
	}
	if _, ok := v.BySnapshot("origin-1", "g1"); ok {
		t.Error("a missing stream is offered as a base")
	}
	old, _ := v.Point(points[0])
	again := b.upload(w, full("g1"), noise(1, 5*slice))
	rec := record(t, again)
	rec.ID = old.ID
	n, err := w.PutPoint(t.Context(), rec, v)
	if err != nil || n != 5 || len(v.Damage()) != 0 || !v.Whole(streams[1].ID) {
		t.Errorf("put again: number %d, %v, damage %+v", n, err, v.Damage())
	}
	for _, s := range streams {
		if chain, err := b.reader().Chain(t.Context(), s.ID, nil); s.ID != streams[0].ID && err != nil {
			t.Errorf("chain of %s: %v, %v", s.ID, chain, err)
		}
	}
	if n, err := w.PutPoint(t.Context(), rec, v); err != nil || n != 5 {
		t.Errorf("the same point once more: %d, %v", n, err)
	}
	if got, err := b.host().Prune(t.Context(), nil, nil, later()); err != nil || got.Objects != 1 {
		t.Errorf("prune of what is superseded: %+v, %v", got, err)
	}
	if store.Object("meta/points/0000000001") != nil {
		t.Error("the superseded record is there still")
	}
	if v := look(t, b.host(), nil, ship.Whole); len(v.Points) != 4 || len(v.Problems) != 0 || len(v.Damage()) != 0 || !v.HasPoint(5) {
		t.Errorf("after: %d points, %+v, %+v", len(v.Points), v.Problems, v.Damage())
	}
}

// TestDamageIsRemembered by every host, until the stream is found whole.
func TestDamageIsRemembered(t *testing.T) {
	b, store, points, streams := aged(t)
	key := store.Keys("data/" + string(streams[0].ID))[0]
	good := store.Object(key)
	shiptest.FlipBit(t, store, key)
	w := b.host()
	got, _, err := w.Verify(t.Context(), ship.VerifyOptions{}, nil)
	if err != nil || len(got.Damage) != 1 || got.Damage[0].Object != key || !slices.Equal(got.Damage[0].Points, points) {
		t.Fatalf("verify: %+v, %v", got, err)
	}
	v := look(t, w, nil, ship.Whole)
	if err := w.NoteDamage(t.Context(), v, got.Damage); err != nil {
		t.Fatal(err)
	}
	events := len(store.Keys("meta/ledger/"))
	if err := w.NoteDamage(t.Context(), v, got.Damage); err != nil || len(store.Keys("meta/ledger/")) != events {
		t.Errorf("noted twice: %v", err)
	}
	other := look(t, b.reader(), nil, ship.Whole)
	if other.Whole(streams[1].ID) || !other.Whole(streams[3].ID) || len(other.Damage()) != 1 {
		t.Errorf("another host: %+v", other.Damage())
	}
	store.Tamper(key, good)
	got, _, err = w.Verify(t.Context(), ship.VerifyOptions{}, nil)
	if err != nil || len(got.Damage) != 0 || !slices.Equal(got.Whole, []point.ID{streams[0].ID}) {
		t.Fatalf("verify again: %+v, %v", got, err)
	}
	if err := w.NoteWhole(t.Context(), v, got.Whole); err != nil || len(v.Damage()) != 0 || !v.Whole(streams[1].ID) {
		t.Errorf("whole again: %v, %+v", err, v.Damage())
	}
	verifyClean(t, b)
}

// TestDamageIsNotedAgain where the event that told of it is damaged, and only this
// host remembers what it said.
func TestDamageIsNotedAgain(t *testing.T) {
	b, store, _, streams := aged(t)
	w, c := b.host(), openCache(t, t.TempDir())
	shiptest.FlipBit(t, store, store.Keys("data/" + string(streams[0].ID))[0])
	verify := func() {
		t.Helper()
		got, _, err := w.Verify(t.Context(), ship.VerifyOptions{}, nil)
		if err != nil || len(got.Damage) != 1 {
			t.Fatalf("verify: %+v, %v", got, err)
		}
		if err := w.NoteDamage(t.Context(), look(t, w, c, ship.Whole), got.Damage); err != nil {
			t.Fatal(err)
		}
	}
	verify()
	store.Tamper(store.Keys("meta/ledger/")[0], []byte("something else"))
	if v := look(t, b.reader(), nil, ship.Whole); len(v.Damage()) != 0 {
		t.Fatalf("another host knows of it all the same: %+v", v.Damage())
	}
	verify()
	if v := look(t, b.reader(), nil, ship.Whole); len(v.Damage()) != 1 {
		t.Errorf("another host does not know of it: %+v", v.Damage())
	}
}

// TestPruneBesideACommit: a prune that ran between an upload and its point is
// noticed by the host that puts the point.
func TestPruneBesideACommit(t *testing.T) {
	b, store, points, streams := aged(t)
	w := b.host()
	v := look(t, w, nil, ship.Whole)
	s5 := b.upload(w, on(streams[1], "g5"), noise(5, slice))
	if _, err := b.host().Prune(t.Context(), nil, points[1:2], later()); err != nil { // its base
		t.Fatal(err)
	}
	if _, err := w.PutPoint(t.Context(), record(t, s5), v); !errors.Is(err, advice.Damaged) || advice.Of(err) == "" {
		t.Errorf("put on what was removed: %v", err)
	}
	if d := v.Damage(); len(d) != 1 || d[0].Stream != streams[1].ID {
		t.Errorf("damage: %+v", d)
	}
	if d := look(t, b.host(), nil, ship.Whole).Damage(); len(d) != 1 {
		t.Errorf("another host sees %+v", d)
	}
	// With a fresh view it is not even put.
	before := len(store.Keys("meta/points/"))
	if _, err := w.PutPoint(t.Context(), record(t, s5), look(t, w, nil, ship.Whole)); !errors.Is(err, advice.Damaged) || len(store.Keys("meta/points/")) != before {
		t.Errorf("with a fresh view: %v", err)
	}
}

// TestPinnedAndNewestStay whatever a prune is told.
func TestPinnedAndNewestStay(t *testing.T) {
	b, _, points, _ := aged(t)
	w := b.host()
	v := look(t, w, nil, ship.Whole)
	if err := w.Pin(t.Context(), v, points[:1]); err != nil {
		t.Fatal(err)
	}
	told := later()
	told.Told = true
	if _, err := b.host().Prune(t.Context(), nil, points[:1], told); !errors.Is(err, advice.Usage) {
		t.Errorf("a pinned one: %v", err)
	}
	if _, err := b.host().Prune(t.Context(), nil, points[3:], later()); err == nil {
		t.Error("the newest of its group: no error")
	}
	if _, err := b.host().Prune(t.Context(), nil, points[1:], told); err != nil {
		t.Errorf("told to drop the newest: %v", err)
	}
	if err := w.Unpin(t.Context(), v, points[:1]); err != nil || v.Pinned(points[0]) {
		t.Errorf("unpin: %v", err)
	}
	if _, err := b.host().Prune(t.Context(), nil, points[:1], told); err == nil {
		t.Error("the last one: no error")
	}
	v = look(t, b.host(), nil, ship.Whole)
	if !v.Dropped(points[1]) || v.Dropped(points[0]) || v.Highest() != 4 {
		t.Errorf("dropped %v, highest %d", v.Dropped(points[1]), v.Highest())
	}
	if err := w.Pin(t.Context(), v, points[1:2]); !errors.Is(err, ship.ErrNotFound) {
		t.Errorf("pin of a dropped one: %v", err)
	}
	if err := w.Adopt(t.Context(), v, "host-2"); err != nil || v.Adopted() != "host-2" {
		t.Errorf("adopt: %v", err)
	}
}

// TestTwoWritersOfEvents: a number that is taken is read, and both events
// count.
func TestTwoWritersOfEvents(t *testing.T) {
	b, store, points, _ := aged(t)
	one, two := b.host(), b.host()
	v1, v2 := look(t, one, nil, ship.Whole), look(t, two, nil, ship.Whole)
	if err := errors.Join(one.Pin(t.Context(), v1, points[:1]), two.Pin(t.Context(), v2, points[1:2])); err != nil {
		t.Fatal(err)
	}
	if !v2.Pinned(points[0]) || len(store.Keys("meta/ledger/")) != 2 {
		t.Errorf("the second does not know the first: %q", store.Keys("meta/ledger/"))
	}
	store.Tamper("meta/ledger/0000000001", nil)
	if v := look(t, b.host(), nil, ship.Whole); !hasProblem(v, "event number 1 is missing") {
		t.Errorf("a lost event: %+v", v.Problems)
	}
}

// TestPruneIsKilledAnywhere: whatever put or delete it dies at, and whether or
// not that happened, what is left is whole, and the next prune ends it.
func TestPruneIsKilledAnywhere(t *testing.T) {
	b, store, points, _ := aged(t)
	if _, err := b.host().Prune(t.Context(), nil, points[:3], later()); err != nil {
		t.Fatal(err)
	}
	want := store.Keys("data/")
	for _, op := range []string{"put", "delete"} {
		for _, after := range []bool{false, true} {
			for n := 1; ; n++ {
				b, store, points, _ := aged(t)
				b.store = shiptest.NewFaults(store, shiptest.Fault{Op: op, Nth: n, Always: true, After: after, Err: errScripted})
				_, err := b.host().Prune(t.Context(), nil, points[:3], later())
				b.store = store
				verifyClean(t, b)
				if _, err := b.host().Prune(t.Context(), nil, remaining(t, b, points[:3]), later()); err != nil {
					t.Fatal(err)
				}
				if got := store.Keys("data/"); len(got) != len(want) || len(store.Keys("meta/points/")) != 1 || len(store.Keys("meta/streams/")) != 3 {
					t.Errorf("died at %s %d (%v): left %q", op, n, after, store.Keys(""))
				}
				if err == nil {
					break
				}
			}
		}
	}
}

func remaining(t *testing.T, b *bench, points []point.ID) []point.ID {
	t.Helper()
	v := look(t, b.host(), nil, ship.Whole)
	return slices.DeleteFunc(slices.Clone(points), func(id point.ID) bool { _, kept := v.Point(id); return !kept })
}

// TestVerifyNamesOrphans and deletes nothing.
func TestVerifyNamesOrphans(t *testing.T) {
	b, store, _, _ := aged(t)
	interrupt(t, b, full("g9"), noise(9, 3*slice))
	for _, key := range store.Keys("meta/leases/") {
		store.Tamper(key, nil)
	}
	got, problems, err := b.reader().Verify(t.Context(), ship.VerifyOptions{}, nil)
	if err != nil || len(problems) != 0 || got.Orphans.Objects != 3 || got.Orphans.Bytes == 0 || len(got.Orphans.Examples) != 3 {
		t.Errorf("got %+v, %+v, %v", got, problems, err)
	}
}
