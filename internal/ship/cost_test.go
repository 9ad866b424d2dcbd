package ship_test

import (
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"snapd/internal/point"
	"snapd/internal/ship"
	"snapd/internal/ship/shiptest"
)

// many is a repository with many points of one stream each, and a cache that
// knows all of them.
func many(t testing.TB, points, segments int) (*bench, *shiptest.Memory, string) {
	t.Helper()
	store := shiptest.NewMemory()
	b := newBench(t, store)
	if err := ship.FillForTest(t.Context(), b.host(), ship.Fill{Points: points, Segments: segments, PerFull: 24}); err != nil {
		t.Fatal(err)
	}
	folder := filepath.Join(t.TempDir(), "cache")
	c, err := ship.OpenCache(folder)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.host().View(t.Context(), c, ship.Whole); err != nil {
		t.Fatal(err)
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	return b, store, folder
}

// TestCostIsLinear: requests do not grow with what is known, and time grows
// with it at most in proportion.
func TestCostIsLinear(t *testing.T) {
	took := func(points int) time.Duration {
		b, store, folder := many(t, points, 10)
		c := openCache(t, folder)
		before := store.Requests("get") + store.Requests("list")
		began := time.Now()
		v := look(t, b.host(), c, ship.Known)
		var drop []point.ID
		for _, p := range v.Points[:48] {
			drop = append(drop, p.ID)
		}
		o := later()
		o.DryRun = true
		got, err := b.host().Prune(t.Context(), v, drop, o)
		spent := time.Since(began)
		if err != nil || len(got.Points) != 48 || len(got.Streams) != 48 || got.Objects != 48*(1+10+1) || len(v.Problems) != 0 {
			t.Errorf("%d points: %+v, %v", points, got, err)
		}
		// Two to open, four to look, four to look at all since something goes and
		// eight numbers beyond, of points and of events, one for the leases, and some
		// manifests.
		if n := store.Requests("get") + store.Requests("list") - before; n > 2+4+4+2*8+1+32 {
			t.Errorf("%d points: %d requests", points, n)
		}
		return spent
	}
	few, lots := took(250), took(2000)
	if lots > 8*few*3+time.Second {
		t.Errorf("250 points took %s, 2000 took %s", few, lots)
	}
}

// BenchmarkView looks at 10,000 points and 100,000 segments.
func BenchmarkView(b *testing.B) {
	bn, store, folder := many(b, 10_000, 10)
	var v *ship.View
	measure := func(name string, do func(c *ship.Cache)) {
		b.Run(name, func(b *testing.B) {
			var before, after runtime.MemStats
			var requests int
			for b.Loop() {
				v = nil
				runtime.GC()
				runtime.ReadMemStats(&before)
				requests = store.Requests("get") + store.Requests("list")
				c, err := ship.OpenCache(folder)
				if err != nil {
					b.Fatal(err)
				}
				do(c)
				requests = store.Requests("get") + store.Requests("list") - requests
				runtime.GC()
				runtime.ReadMemStats(&after)
				if err := c.Close(); err != nil {
					b.Fatal(err)
				}
				runtime.KeepAlive(v)
			}
			b.ReportMetric(float64(requests), "requests/op")
			b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/(1<<20), "MiB-kept")
		})
	}
	view := func(how ship.Look) func(c *ship.Cache) {
		return func(c *ship.Cache) {
			var err error
			if v, err = bn.host().View(b.Context(), c, how); err != nil || len(v.Points) != 10_000 {
				b.Fatal(err)
			}
		}
	}
	measure("known", view(ship.Known))
	measure("whole", view(ship.Whole))
	measure("cold", func(*ship.Cache) { view(ship.Whole)(nil) })
	measure("prune-dry", func(c *ship.Cache) {
		view(ship.Known)(c)
		var drop []point.ID
		for _, p := range v.Points[:100] {
			drop = append(drop, p.ID)
		}
		o := later()
		o.DryRun = true
		if got, err := bn.host().Prune(b.Context(), v, drop, o); err != nil || len(got.Points) != 100 {
			b.Fatal(got, err)
		}
	})
}
