package ship_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"snapd/internal/advice"
	"snapd/internal/point"
	"snapd/internal/ship"
	"snapd/internal/ship/shiptest"
)

// upload under way on another host: a lease, and data without a manifest.
func underWay(t *testing.T, b *bench, store *shiptest.Memory, base point.ID) (stream point.ID) {
	t.Helper()
	stream = point.NewID(time.Now())
	if err := ship.PutLeaseForTest(t.Context(), b.host(), stream, base, 1); err != nil {
		t.Fatal(err)
	}
	if err := store.Put(t.Context(), "data/"+string(stream)+"/00000000-0123456789abcdef", []byte("segment"), true); err != nil {
		t.Fatal(err)
	}
	return stream
}

// TestALeaseKeepsStreamAndBase, whatever the clocks say, also when a person
// says that nothing is shipping.
func TestALeaseKeepsStreamAndBase(t *testing.T) {
	b, store, points, streams := aged(t)
	id := underWay(t, b, store, streams[1].ID)
	o := later()
	o.Now = o.Now.AddDate(1, 0, 0)
	o.Orphans = true
	got, err := b.host().Prune(t.Context(), nil, points[1:2], o)
	if err != nil || len(got.Points) != 1 || len(got.Streams) != 0 || got.Orphans.Objects != 0 {
		t.Errorf("got %+v, %v", got, err)
	}
	if len(store.Keys("data/"+string(id))) != 1 || store.Object(streams[1].Key) == nil {
		t.Error("the upload lost its data or its base")
	}
	// A lease that was renewed between the listing and its Get counts.
	if err := ship.PutLeaseForTest(t.Context(), b.host(), id, streams[1].ID, 2); err != nil {
		t.Fatal(err)
	}
	b.store = &liar{Store: store, hide: func(key string) bool { return key == "meta/leases/"+string(id)+".000002" }}
	store.Tamper("meta/leases/"+string(id)+".000001", nil)
	b.store.(*liar).invent = []string{"meta/leases/" + string(id) + ".000001"}
	if leases, problems, err := b.host().Leases(t.Context()); err != nil || len(problems) != 0 || len(leases) != 1 || leases[0].Count != 2 {
		t.Errorf("renewed: %+v, %+v, %v", leases, problems, err)
	}
	b.store = store
	// Without it the base goes, which was held back.
	store.Tamper("meta/leases/"+string(id)+".000002", nil)
	if got, err := b.host().Prune(t.Context(), nil, nil, later()); err != nil || len(got.Streams) != 1 || got.Streams[0] != streams[1].ID {
		t.Errorf("after the lease: %+v, %v", got, err)
	}
	if len(store.Keys("data/"+string(id))) != 1 {
		t.Error("data without a lease went although no person said so")
	}
	verifyClean(t, b)
}

// TestALeaseThatDoesNotVerify stops deletion.
func TestALeaseThatDoesNotVerify(t *testing.T) {
	b, store, points, streams := aged(t)
	id := underWay(t, b, store, streams[1].ID)
	shiptest.FlipBit(t, store, "meta/leases/"+string(id)+".000001")
	before := len(store.Keys(""))
	got, err := b.host().Prune(t.Context(), nil, points[:1], later())
	if !errors.Is(err, advice.Damaged) || len(got.Problems) != 1 || got.Problems[0].Kind != ship.KindLease || len(store.Keys("")) != before {
		t.Errorf("got %+v, %v", got, err)
	}
}

// TestAnOldLease does not hold against a person's word: a week by the store's
// clock, whatever this host's says.
func TestAnOldLease(t *testing.T) {
	b, store, _, _ := aged(t)
	id := underWay(t, b, store, "")
	store.Now = func() time.Time { return time.Now().Add(8 * 24 * time.Hour) }
	b.point(b.host(), b.upload(b.host(), full("g9"), noise(9, slice)))
	o := later()
	if got, err := b.host().Prune(t.Context(), nil, nil, o); err != nil || got.Objects != 0 {
		t.Errorf("without a word: %+v, %v", got, err)
	}
	o.Orphans = true
	if got, err := b.host().Prune(t.Context(), nil, nil, o); err != nil || got.Orphans.Objects != 1 || got.Objects != 1 {
		t.Errorf("with a word: %+v, %v", got, err)
	}
	if len(store.Keys("data/"+string(id))) != 0 {
		t.Error("it is there still")
	}
}

// TestALeaseIsNeverPutTwiceAtOneKey, also when no listing names those of the
// attempts before: a key stands for one content, and one of them that stayed
// would keep its stream for ever.
func TestALeaseIsNeverPutTwiceAtOneKey(t *testing.T) {
	store := shiptest.NewMemory()
	b := newBench(t, store)
	b.store = &liar{Store: store, hide: func(key string) bool { return strings.HasPrefix(key, "meta/leases/") }}
	data := noise(1, 4*slice)
	for range 3 {
		interrupt(t, b, full("g1"), data)
	}
	if keys := store.Keys("meta/leases/"); len(keys) != 1 || !strings.HasSuffix(keys[0], ".000003") {
		t.Errorf("after three attempts: %q", keys)
	}
	s := b.upload(b.host(), full("g1"), data)
	b.point(b.host(), s)
	if rewritten := store.Rewrites(); len(rewritten) != 0 {
		t.Errorf("put again with another content: %q", rewritten)
	}
	if keys := store.Keys("meta/leases/"); len(keys) != 0 {
		t.Errorf("once the point was put: %q", keys)
	}
}
