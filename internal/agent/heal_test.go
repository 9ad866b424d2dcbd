package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"snapd/internal/advice"
	"snapd/internal/config"
	"snapd/internal/fs"
	"snapd/internal/point"
	"snapd/internal/ship"
	"snapd/internal/ship/dir"

	"filippo.io/age"
)

// damage notes a stream of a point as damaged, as verify does.
func (b *bench) damage(p point.Point) point.ID {
	b.t.Helper()
	repo, view, cache, err := b.openView(b.t.Context(), "main", ship.Known)
	b.check(err)
	rec, kept := view.Point(p.ID)
	if !kept {
		b.t.Fatalf("point %s is not kept", p.ID)
	}
	id := rec.Streams[0].Stream
	b.check(repo.NoteDamage(b.t.Context(), view, []ship.Damage{{Stream: id, Object: "data/" + string(id), Problem: "a bit flipped"}}))
	b.check(cache.Close())
	return id
}

// whole tells whether every kept point can be read.
func (b *bench) whole() bool {
	view := b.view("main")
	for _, r := range view.Points {
		for _, s := range r.Streams {
			if !view.Whole(s.Stream) {
				return false
			}
		}
	}
	return len(view.Damage()) == 0
}

func TestAShipHealsTheOldestDamageAndWhatBuildsOnIt(t *testing.T) {
	b := newBench(t, "", "main")
	var points []point.Point
	for i := range 4 {
		b.write("f", fmt.Sprint(i))
		b.take()
		points = append(points, b.ship()...)
	}
	ill := b.damage(points[1])
	b.take()
	done := b.ship()
	if !b.whole() {
		t.Fatalf("damage is left: %+v", b.view("main").Damage())
	}
	if len(done) != 2 || done[0].ID != points[1].ID || done[0].Numbers["main"] != 5 || done[1].Numbers["main"] != 6 {
		t.Errorf("shipped %+v", done)
	}
	// The record follows, and the latest is still what was taken last.
	q, err := b.record.Get(points[1].ID)
	b.check(err)
	if len(q.Shipped) != 1 || q.Shipped[0].Stream == ill {
		t.Errorf("the record says %+v", q.Shipped)
	}
	b.damage(points[0])
	b.ship()
	if p, err := b.Show(t.Context(), "latest"); err != nil || p.ID != done[1].ID {
		t.Errorf("latest is %s, %v, after an old point was put again, want %s", p.ID, err, done[1].ID)
	}
}

func TestDamageThatCannotBeHealedIsSaid(t *testing.T) {
	b := newBench(t, `keep-local = "1h"`, "main")
	p := b.take()
	b.ship()
	b.take()
	b.ship()
	b.damage(p)
	b.storage.Destroy(func(i int) bool { return i != 0 })
	b.take()
	done, err := b.Do(t.Context(), []string{"shop"}, Steps{Ship: true})
	if !errors.Is(err, advice.Damaged) || errors.Is(err, advice.Partial) || !strings.Contains(err.Error(), string(p.ID)) {
		t.Errorf("%v", err)
	}
	if len(done.Points) < 1 || done.Points[len(done.Points)-1].Numbers["main"] == 0 {
		t.Errorf("the new point was not shipped beside it: %+v", done.Points)
	}
	view := b.view("main")
	if i := slices.IndexFunc(view.Points, func(r ship.PointRecord) bool { return !view.Whole(r.Streams[0].Stream) }); i < 0 || view.Points[i].ID != p.ID {
		t.Errorf("more than that point is damaged: %+v", view.Damage())
	}
}

// TestAnUnreadableSnapshotHoldsUpNothing: the damaged point cannot be healed from it, the
// other one is healed, and the new point is shipped.
func TestAnUnreadableSnapshotHoldsUpNothing(t *testing.T) {
	b := newBench(t, "", "main")
	ill, other := b.take(), b.take()
	b.ship()
	fresh := b.take()
	b.damage(ill)
	b.damage(other)
	said := ""
	b.Report = func(e Event) { said += e.Text + "\n" }
	sends := 0
	b.storage.Fault = func(call string) error {
		if call != "Send" {
			return nil
		}
		if sends++; sends > 1 {
			return nil
		}
		return fmt.Errorf("%w: /srv/x/a file", fs.ErrUnreadable)
	}
	done, err := b.Do(t.Context(), []string{"shop"}, Steps{Ship: true})
	if !errors.Is(err, advice.Damaged) || !strings.Contains(err.Error(), string(ill.ID)) {
		t.Errorf("%v", err)
	}
	shipped := func(p point.Point) bool {
		return slices.ContainsFunc(done.Points, func(q point.Point) bool { return q.ID == p.ID && q.InRepository("main") })
	}
	if shipped(ill) || !shipped(other) || !shipped(fresh) {
		t.Errorf("healed or shipped: %+v", done.Points)
	}
	if !strings.Contains(said, "/srv/x/a file") {
		t.Errorf("the file is not named: %s", said)
	}
}

func TestPruneKeepsTheSnapshotThatHeals(t *testing.T) {
	b := newBench(t, `keep-local = "1h"`, "main")
	p := b.take()
	b.ship()
	for range 20 { // so that it is no base
		b.take()
		b.ship()
	}
	b.damage(p)
	b.now = b.now.Add(2 * time.Hour)
	_, err := b.Prune(t.Context(), nil, false)
	b.check(err)
	guid := p.Datasets[0].GUID
	if !slices.ContainsFunc(b.storage.All(), func(s fs.Snapshot) bool { return s.GUID == guid }) {
		t.Fatal("the snapshot that could heal it is gone")
	}
	b.ship()
	if !b.whole() {
		t.Error("it was not healed")
	}
}

func TestALostManifestIsHealedForGood(t *testing.T) {
	b := newBench(t, "", "main")
	b.take()
	p := b.ship()[0]
	b.take()
	b.ship()
	b.lose("main/meta/streams/" + string(p.Shipped[0].Stream) + ".*")
	_, err := b.List(t.Context(), "") // looks wholly, and asks for it
	b.check(err)
	v := b.view("main")
	if len(v.Damage()) != 1 {
		t.Fatalf("%+v", v.Damage())
	}
	b.damage(p)
	b.ship()
	if !b.whole() {
		t.Fatalf("not healed: %+v", b.view("main").Damage())
	}
	points := len(b.view("main").Points)
	for range 2 { // and it stays so
		if done := b.ship(); len(done) != 0 {
			t.Errorf("shipped again: %+v", done)
		}
		_, err = b.Prune(t.Context(), nil, false)
		b.check(err)
	}
	if v := b.view("main"); !b.whole() || len(v.Points) != points {
		t.Errorf("after a prune: %d points, damage %+v", len(v.Points), v.Damage())
	}
}

func TestAPointThatIsGoneIsShippedAgain(t *testing.T) {
	b := newBench(t, "", "main")
	b.take()
	b.ship()
	b.take()
	gone := b.ship()[0]
	b.lose("main/meta/points/0000000002")
	b.ship()
	v := b.view("main")
	if r, kept := v.Point(gone.ID); !kept || r.Number != 3 || len(v.Problems) != 0 {
		t.Fatalf("kept %v as %d, problems %+v", kept, r.Number, v.Problems)
	}
	if _, err := b.Prune(t.Context(), nil, false); err != nil {
		t.Error(err)
	}
}

func TestAnEmptiedRepositoryIsFilledAgainOrSaysWhatIsLost(t *testing.T) {
	b := newBench(t, `keep-local = "1h"`, "main")
	first := b.take()
	b.ship()
	b.take()
	b.ship()
	b.storage.Destroy(func(i int) bool { return i != 0 })
	b.check(os.RemoveAll(b.path("main/meta")))
	b.check(os.RemoveAll(b.path("main/data")))
	_, err := b.Ship(t.Context(), nil)
	if err == nil || !strings.Contains(err.Error(), string(first.ID)) {
		t.Errorf("the loss of %s is not said: %v", first.ID, err)
	}
	v := b.view("main")
	if len(v.Points) != 1 || !v.Whole(v.Points[0].Streams[0].Stream) {
		t.Errorf("%+v", v.Points)
	}
	before := b.snaps()
	b.now = b.now.Add(3 * day)
	_, _ = b.Prune(t.Context(), nil, false)
	if b.snaps() != before {
		t.Error("a prune after the loss removed a snapshot")
	}
}

func TestACloneStopsAndAPersonDecides(t *testing.T) {
	a := newBench(t, "", "main")
	a.take()
	a.ship()
	clone := a.clone()
	a.take()
	a.ship()
	clone.take()
	_, err := clone.Ship(t.Context(), nil)
	if !errors.Is(err, ErrOtherHost) || !strings.Contains(advice.Of(err), "snapd adopt main") || !strings.Contains(err.Error(), "number 2") {
		t.Fatalf("%v; do %q", err, advice.Of(err))
	}
	if _, err := clone.Prune(t.Context(), nil, false); !errors.Is(err, ErrOtherHost) {
		t.Errorf("its prune: %v", err)
	}
	adopted, err := clone.Adopt(t.Context(), "")
	a.check(err)
	if len(adopted) != 1 || adopted[0].Number != 2 {
		t.Errorf("%+v", adopted)
	}
	if points := clone.ship(); len(points) != 1 || points[0].Numbers["main"] != 3 {
		t.Errorf("%+v", points)
	}
	a.take()
	if _, err := a.Ship(t.Context(), nil); !errors.Is(err, ErrOtherHost) {
		t.Errorf("the other one goes on: %v", err)
	}
}

// clone is another machine with the same state, storage and repositories.
func (b *bench) clone() *bench {
	b.t.Helper()
	c := *b
	b.check(os.CopyFS(b.path("clone"), os.DirFS(b.path("state"))))
	o := b.Options
	o.State, o.Run = b.path("clone"), b.path("clone-run")
	o.Now = func() time.Time { return c.now }
	var err error
	c.Agent, err = New(o)
	b.check(err)
	return &c
}

func TestAClockOfTheFutureDecidesNothing(t *testing.T) {
	b := newBench(t, "keep = \"2 last\"\nkeep-local = \"1h\"", "main")
	b.take()
	b.ship()
	now := b.now
	b.now = now.Add(365 * day)
	future := b.take()
	b.ship()
	b.now = now
	var points []point.Point
	for range 3 {
		b.take()
		points = append(points, b.ship()...)
	}
	last := points[2]
	if p, err := b.Show(t.Context(), "latest:shop"); err != nil || p.ID != last.ID {
		t.Errorf("latest is %s, %v", p.ID, err)
	}
	src, err := b.source(t.Context(), "latest:shop", "")
	b.check(err)
	if src.point.ID != last.ID {
		t.Errorf("a restore of the latest takes %s", src.point.ID)
	}
	b.now = b.now.Add(3 * time.Hour)
	pruned, err := b.Prune(t.Context(), nil, false)
	b.check(err)
	kept := map[point.ID]bool{}
	for _, r := range b.view("main").Points {
		kept[r.ID] = true
	}
	if len(kept) != 3 || !kept[future.ID] || !kept[last.ID] || !kept[points[1].ID] {
		t.Errorf("kept %v: %+v", kept, pruned)
	}
}

func TestBasesThatAreLeftOut(t *testing.T) {
	b := newBench(t, `full-every = "30d"`, "main")
	b.take()
	b.ship()
	b.take()
	if p := b.ship()[0]; p.Shipped[0].Base == nil {
		t.Fatalf("full: %s", p.Shipped[0].Why)
	}
	b.now = b.now.Add(40 * day)
	b.take()
	p := b.ship()[0]
	if s := p.Shipped[0]; s.Base != nil || s.Why != "full: the last full stream is older than full-every (30 days)" {
		t.Errorf("%v, %s", s.Base, s.Why)
	}
	done, err := b.Do(t.Context(), []string{"shop"}, Steps{Ship: true, Full: true})
	b.check(err)
	if len(done.Points) != 1 || done.Points[0].ID != p.ID || done.Points[0].Shipped[0].Why != "full: it was asked for" {
		t.Errorf("%+v", done.Points)
	}
	if !b.whole() {
		t.Error("not whole")
	}
}

func TestOtherRecipientsBeginAFullStream(t *testing.T) {
	b := newBench(t, "", "main")
	recipients := b.encrypt("main")
	b.take()
	b.ship()
	b.take()
	if p := b.ship()[0]; p.Shipped[0].Base == nil {
		t.Fatalf("full: %s", p.Shipped[0].Why)
	}
	recipients(2)
	b.take()
	p := b.ship()[0]
	if s := p.Shipped[0]; s.Base != nil || s.Why != "full: the recipients changed" {
		t.Errorf("base %v, %s", s.Base, s.Why)
	}
	b.take()
	if p := b.ship()[0]; p.Shipped[0].Base == nil {
		t.Errorf("and then: %s", p.Shipped[0].Why)
	}
}

func TestPruneHereIsLinear(t *testing.T) {
	b := newBench(t, "keep = \"1 last\"\nkeep-local = \"1h\"")
	const points = 2000
	first := b.take()
	name := string(first.ID)
	files, err := filepath.Glob(b.path("state/points/*" + name + "*"))
	b.check(err)
	text, err := os.ReadFile(files[0])
	b.check(err)
	for i := range points - 1 { // records of the same snapshot, without a disk's patience
		id := string(point.NewID(first.Time.Add(time.Duration(i+1) * time.Second)))
		b.check(os.WriteFile(strings.ReplaceAll(files[0], name, id), []byte(strings.ReplaceAll(string(text), name, id)), 0o600))
	}
	calls := 0
	b.storage.Fault = func(call string) error {
		if call == "Snapshots" {
			calls++
		}
		return nil
	}
	b.now = b.now.Add(2 * time.Hour)
	start := time.Now()
	pruned, err := b.Prune(t.Context(), nil, true)
	b.check(err)
	took := time.Since(start)
	t.Logf("%d verdicts in %s, %d listings", len(pruned.Keep)+len(pruned.Drop), took, calls)
	if len(pruned.Drop) != points-1 || calls > 3 || took > 5*time.Second {
		t.Errorf("%d dropped in %s with %d listings", len(pruned.Drop), took, calls)
	}
}

func TestPruneOfAGroupThatIsGone(t *testing.T) {
	b := newBench(t, "", "main")
	for range 3 {
		b.take()
		b.ship()
	}
	shop := b.Config.Groups["shop"]
	delete(b.Config.Groups, "shop")
	b.Config.Groups["other"] = shop
	o := PruneOptions{Former: "shop"}
	if _, err := b.PruneAs(t.Context(), o); !errors.Is(err, advice.Usage) {
		t.Errorf("without a policy: %v", err)
	}
	o.Keep.Last = 1
	pruned, err := b.PruneAs(t.Context(), o)
	b.check(err)
	if v := b.view("main"); len(v.Points) != 1 || len(pruned.Freed) != 1 || pruned.Freed[0].Bytes == 0 {
		t.Errorf("%d points, %+v", len(v.Points), pruned)
	}
	o.Former = "other"
	if _, err := b.PruneAs(t.Context(), o); !errors.Is(err, advice.Usage) {
		t.Errorf("of a group that is there: %v", err)
	}
}

// TestARunOfOnePointAsksLittle: at most 12 requests, also after runs that
// dropped points.
func TestARunOfOnePointAsksLittle(t *testing.T) {
	b := newBench(t, "keep = \"3 last\"", "main")
	store := b.count("main")
	run := func() (beside []string) {
		store.asked = nil
		b.now = b.now.Add(time.Hour)
		_, err := b.Do(t.Context(), []string{"shop"}, Steps{Snapshot: true, Ship: true, Prune: true})
		b.check(err)
		for _, r := range store.asked {
			if !strings.HasPrefix(r, "put data/") {
				beside = append(beside, r)
			}
		}
		return beside
	}
	few := func(when string) {
		t.Helper()
		if beside := run(); len(beside) > 12 {
			t.Errorf("%s: %d requests beside the segments:\n%s", when, len(beside), strings.Join(beside, "\n"))
		}
	}
	run()
	few("the second")
	few("the third")
	for range 2 {
		if dropped := run(); !slices.ContainsFunc(dropped, func(r string) bool { return strings.HasPrefix(r, "delete meta/points/") }) {
			t.Errorf("nothing was dropped:\n%s", strings.Join(dropped, "\n"))
		}
	}
	shop := b.Config.Groups["shop"]
	shop.Keep.Last = 100
	b.Config.Groups["shop"] = shop
	few("after one that dropped")
	few("after that")
}

// count has a repository count what it is asked for.
func (b *bench) count(name string) *counting {
	b.t.Helper()
	store, err := dir.New(b.path(name))
	b.check(err)
	signer, err := ship.LoadSigner(b.path("key"))
	b.check(err)
	c := &counting{Store: store}
	b.Open = func(ctx context.Context, _ config.Repository, _ Report) (*ship.Repository, error) {
		return ship.Open(ctx, c, ship.OpenOptions{Signer: signer})
	}
	return c
}

// counting is a store that writes down what it is asked for.
type counting struct {
	ship.Store
	mu    sync.Mutex
	asked []string
}

func (c *counting) note(what, key string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.asked = append(c.asked, what+" "+key)
}

func (c *counting) Get(ctx context.Context, key string) (io.ReadCloser, error) {
	c.note("get", key)
	return c.Store.Get(ctx, key)
}

func (c *counting) Put(ctx context.Context, key string, body []byte, ifAbsent bool) error {
	c.note("put", key)
	return c.Store.Put(ctx, key, body, ifAbsent)
}

func (c *counting) List(ctx context.Context, prefix string, each func(ship.Object) error) error {
	c.note("list", prefix)
	return c.Store.List(ctx, prefix, each)
}

func (c *counting) Delete(ctx context.Context, key string) error {
	c.note("delete", key)
	return c.Store.Delete(ctx, key)
}

// encrypt makes a repository anew, for one recipient; to makes them more.
func (b *bench) encrypt(name string) (to func(recipients int)) {
	b.t.Helper()
	b.check(os.RemoveAll(b.path(name)))
	store, err := dir.New(b.path(name))
	b.check(err)
	b.check(store.Make())
	signer, err := ship.LoadSigner(b.path("key"))
	b.check(err)
	_, err = ship.Create(b.t.Context(), store, ship.CreateOptions{Signer: signer, Encryption: ship.EncryptionAge, Now: b.now})
	b.check(err)
	var recipients []age.Recipient
	to = func(n int) {
		for len(recipients) < n {
			identity, err := age.GenerateX25519Identity()
			b.check(err)
			recipients = append(recipients, identity.Recipient())
		}
	}
	to(1)
	b.Open = func(ctx context.Context, _ config.Repository, _ Report) (*ship.Repository, error) {
		return ship.Open(ctx, store, ship.OpenOptions{Signer: signer, Recipients: recipients})
	}
	return to
}
