package point

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestIDsSortByTimeAndCarryIt(t *testing.T) {
	at := time.Date(2026, 11, 21, 10, 11, 12, 345e6, time.UTC)
	a, b := NewID(at), NewID(at.Add(time.Millisecond))
	if a >= b {
		t.Errorf("%s is not before %s", a, b)
	}
	if !a.Time().Equal(at) {
		t.Errorf("time of %s: %s", a, a.Time())
	}
	if back, err := ParseID(a.String()); err != nil || back != a {
		t.Errorf("%v %v", back, err)
	}
	for _, bad := range []string{"", "short", strings.Repeat("i", 16), strings.Repeat("A", 16), "../../etc/passwd"} {
		if _, err := ParseID(bad); err == nil {
			t.Errorf("%q was accepted", bad)
		}
	}
}

func TestRecordKeepsPointsAndNamesADamagedOne(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "points")
	r, err := OpenRecord(dir)
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now().UTC().Truncate(time.Second)
	a, b := Point{ID: NewID(now), Group: "a", Time: now}, Point{ID: NewID(now.Add(time.Second)), Group: "b", Time: now}
	for _, p := range []Point{b, a} {
		if err := r.Put(p); err != nil {
			t.Fatal(err)
		}
	}
	got, err := r.All()
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff([]Point{a, b}, got); d != "" {
		t.Error(d)
	}
	file := filepath.Join(dir, string(a.ID)+".json")
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode of the record: %v %v", info.Mode(), err)
	}
	if err := os.WriteFile(file, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	got, err = r.All()
	if len(got) != 1 || err == nil || !strings.Contains(err.Error(), file) {
		t.Errorf("%v %v", got, err)
	}
	if p, found, err := r.Last(func(p Point) bool { return p.Group == "b" }); err != nil || !found || p.ID != b.ID {
		t.Errorf("the last of b: %v %v %v", p, found, err)
	}
	if p, found, err := r.Last(func(p Point) bool { return p.Group == "a" }); found || err == nil || !strings.Contains(err.Error(), file) {
		t.Errorf("the last of a, which is damaged: %v %v %v", p, found, err)
	}
	if err := r.Delete(b.ID); err != nil {
		t.Fatal(err)
	}
	if err := r.Delete(b.ID); err != nil {
		t.Errorf("deleting twice: %v", err)
	}
}

// TestWhoMadeAnID: an installation knows its own ids, and takes no other for one.
func TestWhoMadeAnID(t *testing.T) {
	now := time.Now()
	wrong := 0
	for range 1000 {
		id := NewIDBy(now, "this host")
		if parsed, err := ParseID(string(id)); err != nil || !parsed.By("this host") || id.Time().UnixMilli() != now.UnixMilli() {
			t.Fatalf("%s: %v", id, err)
		}
		for _, other := range []ID{NewID(now), NewIDBy(now, "another")} {
			if other.By("this host") {
				wrong++
			}
		}
		if id.By("") || ID("x").By("this host") {
			t.Fatal("no installation made it")
		}
	}
	if wrong > 3 { // once in 65,536
		t.Errorf("%d of 2000 others' ids are taken for our own", wrong)
	}
}
