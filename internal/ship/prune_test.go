package ship_test

import (
	"context"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"snapd/internal/advice"
	"snapd/internal/point"
	"snapd/internal/ship"
	"snapd/internal/ship/shiptest"

	"filippo.io/age"
)

// aged is a repository with points of which nothing is young any more:
//
//	p1: s1 full   p2: s2 on s1   p3: s3 on s1   p4: s4 full (another dataset), s3
func aged(t *testing.T) (b *bench, store *shiptest.Memory, points []point.ID, streams []ship.Stream) {
	t.Helper()
	store = shiptest.NewMemory()
	b = newBench(t, store)
	w := b.host()
	s1 := b.upload(w, full("g1"), noise(1, 5*slice))
	p1 := b.point(w, s1)
	s2 := b.upload(w, on(s1, "g2"), noise(2, 3*slice))
	p2 := b.point(w, s2)
	s3 := b.upload(w, on(s1, "g3"), noise(3, 2*slice))
	p3 := b.point(w, s3)
	h := full("h1")
	h.Origin = "origin-2"
	s4 := b.upload(w, h, noise(4, 4*slice))
	p4 := b.point(w, s4, s3)
	return b, store, []point.ID{p1, p2, p3, p4}, []ship.Stream{s1, s2, s3, s4}
}

func later() ship.PruneOptions { return ship.PruneOptions{Now: time.Now().Add(48 * time.Hour)} }

func verifyClean(t *testing.T, b *bench) ship.Checked {
	t.Helper()
	checked, problems, err := b.reader().Verify(t.Context(), ship.VerifyOptions{Deep: true}, nil)
	if err != nil || len(problems) != 0 {
		t.Errorf("verify: %+v, %v", problems, err)
	}
	return checked.Checked
}

func TestPruneRemovesWhatNothingNeeds(t *testing.T) {
	b, store, points, streams := aged(t)
	before := store.Keys("")
	o := later()
	o.DryRun = true
	plan, err := b.host().Prune(t.Context(), nil, points[:2], o)
	if err != nil || !slices.Equal(store.Keys(""), before) {
		t.Fatalf("a dry run: %v, changed: %v", err, !slices.Equal(store.Keys(""), before))
	}
	got, err := b.host().Prune(t.Context(), nil, points[:2], later())
	if err != nil {
		t.Fatal(err)
	}
	// s1 stays, s3 builds on it.
	if !slices.Equal(got.Points, points[:2]) || !slices.Equal(got.Streams, []point.ID{streams[1].ID}) || got.Objects != 2+1+3 || got.Bytes == 0 {
		t.Errorf("got %+v", got)
	}
	if plan.Objects != got.Objects || plan.Bytes != got.Bytes || !slices.Equal(plan.Streams, got.Streams) {
		t.Errorf("the dry run said %+v, done was %+v", plan, got)
	}
	if c := verifyClean(t, b); c.Points != 2 || c.Streams != 3 || c.Segments != 5+2+4 {
		t.Errorf("left: %+v", c)
	}
	again, err := b.host().Prune(t.Context(), nil, points[:2], later())
	if err != nil || again.Objects != 0 {
		t.Errorf("again: %+v, %v", again, err)
	}
}

func TestPruneNeverRemovesEverything(t *testing.T) {
	b, store, points, _ := aged(t)
	before := store.Keys("")
	for _, drop := range [][]point.ID{points, points[3:]} {
		if got, err := b.host().Prune(t.Context(), nil, drop, later()); err == nil {
			t.Errorf("dropping %d of 4, the newest too: %+v", len(drop), got)
		}
	}
	if _, err := b.reader().Prune(t.Context(), nil, points[:1], later()); !errors.Is(err, ship.ErrReadOnly) {
		t.Errorf("by a reader: got %v", err)
	}
	if _, err := b.host().Prune(t.Context(), nil, nil, ship.PruneOptions{}); err == nil {
		t.Error("without knowing what time it is: no error")
	}
	if !slices.Equal(store.Keys(""), before) {
		t.Error("something was removed")
	}
}

func TestPruneKeepsWhatIsUnderWay(t *testing.T) {
	b, store, _, streams := aged(t)
	w := b.host()
	committed, err := w.Upload(t.Context(), on(streams[1], "g9"), source(noise(9, 2*slice)), b.records, nil) // its point is not there yet
	if err = errors.Join(err, b.records.Forget(committed.ID)); err != nil {
		t.Fatal(err)
	}
	interrupt(t, b, full("g10"), noise(10, 3*slice))
	if got, err := w.Prune(t.Context(), nil, nil, later()); err != nil || got.Objects != 0 {
		t.Errorf("nothing is deleted that no signed record removes: %+v, %v", got, err)
	}
	heads, err := b.records.Active()
	if err != nil {
		t.Fatal(err)
	}
	heads = slices.DeleteFunc(heads, func(h ship.RecordHead) bool { return h.GUID != "g10" })
	if len(heads) != 1 {
		t.Fatal(heads)
	}
	o := later()
	o.Orphans = true
	if got, err := w.Prune(t.Context(), nil, nil, o); err != nil || len(got.Streams) != 0 || got.Objects != 0 {
		t.Errorf("under living leases: %+v, %v, want nothing gone", got, err)
	}
	if err := w.EndLease(t.Context(), committed.ID); err != nil {
		t.Fatal(err)
	}
	o.Keep = []point.ID{heads[0].Stream}
	got, err := w.Prune(t.Context(), nil, nil, o)
	if err != nil || !slices.Equal(got.Streams, []point.ID{committed.ID}) {
		t.Errorf("of orphans: %+v, %v, want the stream without a point gone", got, err)
	}
	// A week later by the store's clock, which the newest object there tells.
	store.Now = func() time.Time { return time.Now().Add(8 * 24 * time.Hour) }
	b.point(w, streams[3])
	if len(store.Keys("data/"+string(heads[0].Stream))) != 3 {
		t.Error("an upload under way lost its segments")
	}
	o.Keep = nil
	if got, err = w.Prune(t.Context(), nil, nil, o); err != nil || got.Objects < 3 || got.Orphans.Objects != 3 {
		t.Errorf("an upload that was given up: %+v, %v", got, err)
	}
	if left := store.Keys("data/" + string(heads[0].Stream)); len(left) != 0 {
		t.Errorf("left: %q", left)
	}
	verifyClean(t, b)
}

// TestPruneRemovesReplacedSlices: a second attempt left an older slice behind.
func TestPruneRemovesReplacedSlices(t *testing.T) {
	b, store, _, _ := aged(t)
	data := noise(9, 4*slice)
	interrupt(t, b, full("g9"), data)
	data[slice+1] ^= 1
	w := b.host()
	s := b.upload(w, full("g9"), data)
	b.point(w, s)
	if n := len(store.Keys("data/" + string(s.ID))); n != 5 {
		t.Fatalf("%d segments, want one twice", n)
	}
	o := later()
	o.Orphans = true
	if got, err := w.Prune(t.Context(), nil, nil, o); err != nil || got.Objects != 1 {
		t.Errorf("got %+v, %v", got, err)
	}
	verifyClean(t, b)
}

// TestPruneDiesAnywhere: whatever delete it dies at, all points that are left
// can be restored, and the next prune gets to the same end.
func TestPruneDiesAnywhere(t *testing.T) {
	b, store, points, _ := aged(t)
	if _, err := b.host().Prune(t.Context(), nil, points[:3], later()); err != nil {
		t.Fatal(err)
	}
	want := len(store.Keys(""))
	for n := 1; ; n++ {
		b, store, points, _ := aged(t)
		b.store = shiptest.NewFaults(store, shiptest.Fault{Op: "delete", Nth: n, Always: true, Err: errScripted})
		_, err := b.host().Prune(t.Context(), nil, points[:3], later())
		b.store = store
		verifyClean(t, b)
		if _, err := b.host().Prune(t.Context(), nil, points[:3], later()); err != nil {
			t.Fatal(err)
		}
		if got := len(store.Keys("")); got != want {
			t.Errorf("died at delete %d: %d objects left, want %d", n, got, want)
		}
		if err == nil {
			break
		}
	}
}

// TestPruneStopsAtDamage: what a point needs that cannot be read is unknown.
func TestPruneStopsAtDamage(t *testing.T) {
	b, store, points, _ := aged(t)
	shiptest.FlipBit(t, store, "meta/points/0000000003")
	before := store.Keys("")
	got, err := b.host().Prune(t.Context(), nil, points[:2], later())
	if !errors.Is(err, advice.Damaged) || len(got.Points) != 0 || len(got.Streams) != 0 || len(got.Problems) != 1 || got.Problems[0].Object != "meta/points/0000000003" {
		t.Errorf("got %+v, %v", got, err)
	}
	if !slices.Equal(store.Keys(""), before) {
		t.Error("something was removed")
	}
}

func TestVerifyFindsAllAndNamesPoints(t *testing.T) {
	b, store, points, streams := aged(t)
	segment := func(i, n int) string { return store.Keys("data/" + string(streams[i].ID))[n] }
	shiptest.FlipBit(t, store, segment(0, 2)) // in the base of all
	store.Tamper(segment(3, 1), nil)
	shiptest.FlipBit(t, store, streams[1].Key)
	shiptest.FlipBit(t, store, "meta/points/0000000001")
	for _, deep := range []bool{false, true} {
		r := b.host() // plain needs no identity
		if deep {
			r = b.reader()
		}
		checked, problems, err := r.Verify(t.Context(), ship.VerifyOptions{Deep: deep}, nil)
		if err != nil {
			t.Fatal(err)
		}
		want := map[string][]point.ID{
			"meta/points/0000000001": {},
			streams[1].Key:           {points[1]},
			segment(0, 2):            {points[1], points[2], points[3]}, // also where a stream above it is damaged too
		}
		for object, ids := range want {
			i := slices.IndexFunc(problems, func(p ship.Problem) bool { return p.Object == object })
			if i < 0 || !slices.Equal(problems[i].Points, ids) {
				t.Errorf("deep %v: %s is not among the problems of %v: %+v", deep, object, ids, problems)
			}
		}
		missing := slices.ContainsFunc(problems, func(p ship.Problem) bool {
			return strings.HasPrefix(p.Object, "data/"+string(streams[3].ID)) && strings.Contains(p.Problem, "not found") && slices.Equal(p.Points, points[3:])
		})
		if !missing || len(problems) != 4 || checked.Points != 3 {
			t.Errorf("deep %v: checked %+v, problems %+v", deep, checked, problems)
		}
	}
}

func TestVerifyChosenAndChecked(t *testing.T) {
	b, _, points, streams := aged(t)
	var formats []string
	o := ship.VerifyOptions{Points: points[1:2], Deep: true, Check: func(format string, r io.Reader) error {
		formats = append(formats, format)
		_, err := io.Copy(io.Discard, r)
		return err
	}}
	checked, problems, err := b.reader().Verify(t.Context(), o, nil)
	if err != nil || len(problems) != 0 || checked.Points != 1 || checked.Streams != 2 || checked.Segments != 8 || len(formats) != 2 || formats[0] != "btrfs-2" {
		t.Errorf("got %+v, %v, %v, formats %q", checked, problems, err, formats)
	}
	o.Check = func(string, io.Reader) error { return errScripted }
	_, problems, err = b.reader().Verify(t.Context(), o, nil)
	if err != nil || len(problems) != 2 || problems[0].Object != streams[0].Key {
		t.Errorf("streams that are not sound: %+v, %v", problems, err)
	}
	o.Points = []point.ID{point.NewID(time.Now())}
	if _, _, err = b.reader().Verify(t.Context(), o, nil); !errors.Is(err, ship.ErrNotFound) {
		t.Errorf("no such point: got %v", err)
	}
	if _, _, err = b.host().Verify(t.Context(), ship.VerifyOptions{Deep: true}, nil); !errors.Is(err, ship.ErrNoIdentity) {
		t.Errorf("deep without an identity: got %v", err)
	}
}

// TestReplacedPointIsNoticed: the one before was replaced by an older one
// that is well signed.
func TestReplacedPointIsNoticed(t *testing.T) {
	store := shiptest.NewMemory()
	b := newBench(t, store)
	w := b.host()
	s := b.upload(w, full("g1"), noise(1, slice))
	b.point(w, s)
	first := store.Object("meta/points/0000000001")
	store.Tamper("meta/points/0000000001", nil)
	b.point(b.host(), s) // takes number 1 again
	b.point(b.host(), s)
	store.Tamper("meta/points/0000000001", first)
	_, problems, err := b.host().Verify(t.Context(), ship.VerifyOptions{}, nil)
	if err != nil || len(problems) != 1 || problems[0].Object != "meta/points/0000000001" {
		t.Errorf("got %+v, %v", problems, err)
	}
}

// TestPruneBesideAnUpload: the base of an upload under way is kept; where it
// was not, the upload does not commit what could not be restored.
func TestPruneBesideAnUpload(t *testing.T) {
	b, store, points, streams := aged(t)
	w := b.host()
	interrupt(t, b, on(streams[1], "g9"), noise(9, 3*slice))
	o := later()
	var err error
	if o.Keep, err = b.records.Keep(w.ID); err != nil || len(o.Keep) != 2 {
		t.Fatalf("keep: %v, %v", o.Keep, err)
	}
	if got, err := w.Prune(t.Context(), nil, points[1:2], o); err != nil || len(got.Streams) != 0 {
		t.Errorf("got %+v, %v, want the base kept", got, err)
	}
	if keep, err := b.records.Keep("another"); err != nil || len(keep) != 0 {
		t.Errorf("for another repository: %v, %v", keep, err)
	}
	data := noise(9, 3*slice)
	open := func(ctx context.Context) (io.ReadCloser, error) {
		if got, err := b.host().Prune(ctx, nil, nil, later()); err != nil || len(got.Streams) != 0 {
			t.Errorf("got %+v, %v, want the base kept under the lease", got, err)
		}
		b.pruneBlind(store)
		return source(data)(ctx)
	}
	if s, err := b.long().Upload(t.Context(), on(streams[1], "g9"), open, b.records, nil); !errors.Is(err, ship.ErrNotFound) {
		t.Errorf("committed without its base: %+v, %v", s, err)
	}
	verifyClean(t, b)
}

// long is a host whose every upload counts as a long one.
func (b *bench) long() *ship.Repository {
	b.t.Helper()
	r, err := ship.Open(b.t.Context(), b.store, ship.OpenOptions{Signer: b.signer, Recipients: []age.Recipient{b.identity.Recipient()}, BaseAgain: -1})
	if err != nil {
		b.t.Fatal(err)
	}
	return r
}

// pruneBlind prunes as a keeper does that sees no lease: one stream goes.
func (b *bench) pruneBlind(store *shiptest.Memory) {
	b.t.Helper()
	for _, key := range store.Keys("meta/leases/") {
		store.Tamper(key, nil)
	}
	if got, err := b.host().Prune(b.t.Context(), nil, nil, later()); err != nil || len(got.Streams) != 1 {
		b.t.Errorf("got %+v, %v, want the base gone", got, err)
	}
}

// TestPruneBesideAShortUpload: the base is not asked for again, and the point is
// refused all the same, whatever the view of its host knows; no host ever
// counts it as whole.
func TestPruneBesideAShortUpload(t *testing.T) {
	for _, known := range []string{"before the prune", "after the prune"} {
		t.Run(known, func(t *testing.T) {
			b, store, points, streams := aged(t)
			w := b.host()
			view, err := w.View(t.Context(), nil, ship.Whole)
			if err != nil {
				t.Fatal(err)
			}
			if got, err := w.Prune(t.Context(), nil, points[1:2], ship.PruneOptions{Now: later().Now, Keep: []point.ID{streams[1].ID}}); err != nil || len(got.Streams) != 0 {
				t.Fatalf("got %+v, %v", got, err)
			}
			s, err := w.Upload(t.Context(), on(streams[1], "g9"), func(ctx context.Context) (io.ReadCloser, error) {
				b.pruneBlind(store)
				return source(noise(9, 3*slice))(ctx)
			}, b.records, nil)
			if err != nil {
				t.Fatal(err)
			}
			if known == "after the prune" {
				view = look(t, w, nil, ship.Whole)
			}
			ps, err := s.InPoint("btrfs")
			if err != nil {
				t.Fatal(err)
			}
			rec := ship.PointRecord{ID: point.NewID(time.Now()), Host: "host-1", Time: time.Now(), Consistency: point.Crash, Streams: []ship.PointStream{ps}}
			if _, err := w.PutPoint(t.Context(), rec, view); !errors.Is(err, ship.ErrDamaged) {
				t.Errorf("put a point without its base: %v", err)
			}
			after := look(t, b.host(), nil, ship.Whole)
			if _, there := after.Point(rec.ID); after.Whole(s.ID) || there && len(after.Damage()) == 0 {
				t.Errorf("the point is there: %v, its stream is whole: %v, damage %+v", there, after.Whole(s.ID), after.Damage())
			}
		})
	}
}

// TestALongUploadComparesItsBaseAgain: a segment of it went while the upload
// lasted, and no event tells of it.
func TestALongUploadComparesItsBaseAgain(t *testing.T) {
	b, store, _, streams := aged(t)
	_, err := b.long().Upload(t.Context(), on(streams[1], "g9"), func(ctx context.Context) (io.ReadCloser, error) {
		store.Tamper(store.Keys("data/" + string(streams[1].ID) + "/")[0], nil)
		return source(noise(9, 3*slice))(ctx)
	}, b.records, nil)
	if unfit, ok := errors.AsType[*ship.UnfitBase](err); !ok || unfit.Base != streams[1].ID || len(unfit.Damage) != 1 {
		t.Errorf("committed on a base that lost a segment: %v", err)
	}
}

// TestPruneLooksAboveAGap: a host whose memory ends right below a record that is lost
// learns of what lies above it before it deletes anything, also where the listing lacks
// that. The older code asked for the number after the highest that it knew, and took
// what it did not find for the end: what only newer points needed was deleted (histories
// attacks:4792 and everything:5466).
func TestPruneLooksAboveAGap(t *testing.T) {
	for name, c := range map[string]struct{ orphans, lacking bool }{
		"a point": {}, "what no record explains": {orphans: true}, "a point, listed short": {lacking: true}, "what no record explains, listed short": {true, true},
	} {
		t.Run(name, func(t *testing.T) {
			store := shiptest.NewMemory()
			b := newBench(t, store)
			w, memory := b.host(), openCache(t, t.TempDir())
			first := b.upload(w, full("g1"), noise(1, 2*slice))
			p1 := b.point(w, first)
			b.point(w, b.upload(w, full("g2"), noise(2, slice)))
			look(t, b.host(), memory, ship.Whole)
			b.point(w, b.upload(w, full("g3"), noise(3, slice)))
			last := b.upload(w, on(first, "g4"), noise(4, slice))
			b.point(w, last)
			store.Tamper("meta/points/0000000003", nil)
			for _, key := range store.Keys("meta/leases/") {
				store.Tamper(key, nil)
			}
			if c.lacking {
				b.store = shiptest.NewFaults(store, shiptest.Fault{Op: "list", Nth: 1, Always: true, Listed: func(all []ship.Object) []ship.Object {
					return slices.DeleteFunc(all, func(o ship.Object) bool {
						return o.Key == "meta/points/0000000004" || strings.HasPrefix(o.Key, "meta/streams/"+string(last.ID))
					})
				}})
			}
			before := store.Keys("")
			known := look(t, b.host(), memory, ship.Known)
			if len(known.Points) != 2 {
				t.Fatalf("it knows %d points", len(known.Points))
			}
			o, drop := later(), []point.ID{p1}
			if o.Orphans = c.orphans; o.Orphans {
				drop = nil
			}
			got, err := b.host().Prune(t.Context(), known, drop, o)
			if !errors.Is(err, advice.Damaged) || len(got.Problems) == 0 || !slices.Equal(store.Keys(""), before) {
				t.Errorf("got %+v, %v; of %d objects %d are left", got, err, len(before), len(store.Keys("")))
			}
		})
	}
}
