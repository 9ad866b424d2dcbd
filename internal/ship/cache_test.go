package ship_test

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"snapd/internal/point"
	"snapd/internal/ship"
	"snapd/internal/ship/shiptest"
)

// TestCacheSavesRequests: a look with a warm cache costs a constant.
func TestCacheSavesRequests(t *testing.T) {
	b, store, points, streams := aged(t)
	dir := filepath.Join(t.TempDir(), "cache")
	r := b.host()
	look(t, r, openCache(t, dir), ship.Whole)
	gets, lists := store.Requests("get"), store.Requests("list")
	v := look(t, r, openCache(t, dir), ship.Known)
	if g, l := store.Requests("get")-gets, store.Requests("list")-lists; g > 4 || l != 0 {
		t.Errorf("%d gets and %d listings", g, l)
	}
	if len(v.Points) != 4 || len(v.Problems) != 0 || !v.Whole(streams[3].ID) || len(v.Streams()) != 4 {
		t.Errorf("known: %d points, %+v", len(v.Points), v.Problems)
	}
	// Another host adds a point and drops one.
	other := b.host()
	s5 := b.upload(other, full("g5"), noise(5, slice))
	p5 := b.point(other, s5)
	if _, err := other.Prune(t.Context(), nil, points[1:2], later()); err != nil {
		t.Fatal(err)
	}
	c := openCache(t, dir)
	v = look(t, r, c, ship.Known)
	if _, ok := v.Point(p5); !ok || !v.Dropped(points[1]) || v.Highest() != 5 || len(v.Writers(4)) != 1 || v.HostOf(5) != "host-1" {
		t.Errorf("known: %+v", v.Points)
	}
	if err := c.NotePut(5); err != nil {
		t.Fatal(err)
	}
	if seen := openCache(t, dir).Seen(); seen.Put != 5 || seen.Point.Number != 5 || seen.Event.Number != 1 {
		t.Errorf("seen: %+v", seen)
	}
}

// TestCacheMayBeLost in whole or in part.
func TestCacheMayBeLost(t *testing.T) {
	b, _, points, _ := aged(t)
	dir := filepath.Join(t.TempDir(), "cache")
	c := openCache(t, dir)
	look(t, b.host(), c, ship.Whole)
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "records.jsonl")
	whole, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	second := bytes.IndexByte(whole, '\n') + 1
	flipped := bytes.Clone(whole)
	flipped[second+3] ^= 1
	for name, text := range map[string][]byte{"torn": whole[:len(whole)-9], "flipped": flipped, "empty": nil, "junk": []byte("junk\n")} {
		if err := os.WriteFile(file, text, 0o600); err != nil {
			t.Fatal(err)
		}
		for range 2 {
			v := look(t, b.host(), openCache(t, dir), ship.Known)
			if len(v.Points) != 4 || len(v.Problems) != 0 || v.Points[0].ID != points[0] {
				t.Errorf("%s: %d points, %+v", name, len(v.Points), v.Problems)
			}
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "seen.json"), []byte("junk"), 0o600); err != nil {
		t.Fatal(err)
	}
	if v := look(t, b.host(), openCache(t, dir), ship.Known); len(v.Points) != 4 || len(v.Problems) != 0 {
		t.Errorf("without a memory: %d points, %+v", len(v.Points), v.Problems)
	}
	if info, err := os.Stat(dir); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
}

// TestCacheIsCompacted when most of it stands for nothing.
func TestCacheIsCompacted(t *testing.T) {
	store := shiptest.NewMemory()
	b := newBench(t, store)
	dir := filepath.Join(t.TempDir(), "cache")
	c := openCache(t, dir)
	w := b.host()
	v := look(t, w, c, ship.Whole)
	s := b.upload(w, full("g1"), noise(1, slice))
	for range 300 {
		if _, err := w.PutPoint(t.Context(), record(t, s), v); err != nil {
			t.Fatal(err)
		}
	}
	var drop []point.ID
	for _, p := range v.Points[:299] {
		drop = append(drop, p.ID)
	}
	if _, err := w.Prune(t.Context(), v, drop, later()); err != nil {
		t.Fatal(err)
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	before := lines(t, dir)
	c = openCache(t, dir)
	if after := lines(t, dir); after >= before {
		t.Errorf("%d lines before, %d after", before, after)
	}
	if v := look(t, b.host(), c, ship.Known); len(v.Points) != 1 || v.Highest() != 300 || len(v.Problems) != 0 {
		t.Errorf("after: %d points, highest %d, %+v", len(v.Points), v.Highest(), v.Problems)
	}
}

func lines(t *testing.T, dir string) int {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(dir, "records.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	return bytes.Count(text, []byte("\n"))
}

// TestReaderKeepsDamage: a user without a key to note it remembers it here.
func TestReaderKeepsDamage(t *testing.T) {
	b, store, points, streams := aged(t)
	dir := filepath.Join(t.TempDir(), "cache")
	c := openCache(t, dir)
	key := store.Keys("data/" + string(streams[3].ID))[0]
	if err := c.NoteDamage([]ship.Damage{{Stream: streams[3].ID, Object: key, Problem: "not found"}}); err != nil {
		t.Fatal(err)
	}
	v := look(t, b.host(), openCache(t, dir), ship.Known)
	if d := v.Damage(); len(d) != 1 || !slices.Equal(d[0].Points, points[3:]) || v.Whole(streams[3].ID) {
		t.Errorf("damage: %+v", d)
	}
	if err := b.host().NoteDamage(t.Context(), v, v.Damage()); err != nil {
		t.Fatal(err)
	}
	if seen := openCache(t, dir).Seen(); len(seen.Damage) != 0 {
		t.Errorf("noted in the ledger, and here still: %+v", seen.Damage)
	}
}
