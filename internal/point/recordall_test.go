package point

import (
	"os"
	"path/filepath"
	"testing"
	"time"
)

// TestAllIsReadAnewWhereItChanged: also by another process, and what a caller
// does with a point changes none that the next one gets.
func TestAllIsReadAnewWhereItChanged(t *testing.T) {
	dir := t.TempDir()
	open := func() *Record {
		r, err := OpenRecord(dir)
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	r, other := open(), open()
	all := func(want int) []Point {
		t.Helper()
		points, err := r.All()
		if err != nil || len(points) != want {
			t.Fatalf("%d points, %v, want %d", len(points), err, want)
		}
		return points
	}
	p := Point{
		ID: NewID(time.Now()), Group: "shop", Shipped: []Shipped{{Repository: "main", Dataset: "a"}, {Repository: "other", Dataset: "a"}},
		Datasets: []Dataset{{Dataset: "a", Paths: []string{"/srv/a b"}}}, Numbers: map[string]int64{"main": 7},
	}
	old := time.Now().Add(-time.Hour)
	put := func() {
		t.Helper()
		if err := other.Put(p); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(filepath.Join(dir, string(p.ID)+".json"), old, old); err != nil {
			t.Fatal(err)
		}
	}
	put()
	got := all(1)[0]
	got.Numbers["main"] = 9
	got.Datasets[0].Paths[0] = "/else"
	got.Leave("main", true)
	if got := all(1)[0]; got.Numbers["main"] != 7 || got.Datasets[0].Paths[0] != "/srv/a b" || got.Shipped[0].Repository != "main" {
		t.Errorf("what one caller did, the next one got: %+v", got)
	}
	p.Numbers["main"] = 8 // a file of the same length and time
	put()
	if got := all(1)[0]; got.Numbers["main"] != 8 {
		t.Errorf("what another process wrote was not read: %+v", got)
	}
	if err := os.WriteFile(filepath.Join(dir, string(p.ID)+".json"), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if points, err := r.All(); err == nil || len(points) != 0 {
		t.Errorf("a file that was cut short: %+v, no error", points)
	}
	if err := other.Delete(p.ID); err != nil {
		t.Fatal(err)
	}
	all(0)
}
