//go:build guest

package zfs

import (
	"errors"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"snapd/internal/fs"
	"snapd/internal/proc"
)

func holds(t testing.TB, snapshot string) string {
	t.Helper()
	return sh(t, "zfs", "holds", "-H", snapshot)
}

// TestHolds: what is shipped cannot be destroyed by hand, a bookmark stays
// when it is shipped, and both go when nothing needs them.
func TestHolds(t *testing.T) {
	pool := newPool(t, 256<<20)
	d := New()
	sh(t, "zfs", "create", pool+"/a b")
	dir := mountpoint(t, pool+"/a b")
	dataset := located(t, dir)
	first := take(t, "a", dataset)[0]
	second := take(t, "b", dataset)[0]
	a, b := pool+"/a b@"+first.Name, pool+"/a b@"+second.Name
	for range 2 {
		if err := d.Protect(t.Context(), "aa", second, &first); err != nil {
			t.Fatal(err)
		}
	}
	if err := d.Protect(t.Context(), "bb", second, nil); err != nil {
		t.Fatal(err)
	}
	if exec.Command("zfs", "destroy", a).Run() == nil || exec.Command("zfs", "destroy", b).Run() == nil {
		t.Fatal("what is being shipped can be destroyed")
	}
	for range 2 {
		if err := d.Shipped(t.Context(), "aa", second); err != nil {
			t.Fatal(err)
		}
	}
	if holds(t, a) != "" || !strings.Contains(holds(t, b), fs.HoldName("bb")) || strings.Contains(holds(t, b), fs.HoldName("aa")) {
		t.Errorf("holds are %q and %q", holds(t, a), holds(t, b))
	}
	marked, err := d.Bookmarks(t.Context(), dataset)
	if err != nil || !marked[second.GUID] || marked[first.GUID] {
		t.Errorf("bookmarks are %v, %v", marked, err)
	}
	// Holds that a user made stay whatever is tidied.
	sh(t, "zfs", "bookmark", a, pool+"/a b#mine")
	sh(t, "zfs", "hold", "mine", a)
	keep := func(string) bool { return true }
	drop := func(string) bool { return false }
	if removed, err := d.Tidy(t.Context(), dataset, keep, func(string, string) bool { return true }); err != nil || len(removed) > 0 {
		t.Errorf("got %q, %v", removed, err)
	}
	removed, err := d.Tidy(t.Context(), dataset, drop, func(purpose, guid string) bool { return purpose != "bb" || guid != second.GUID })
	if err != nil || len(removed) != 2 || holds(t, b) != "" {
		t.Errorf("got %q, %v; holds %q", removed, err, holds(t, b))
	}
	if marked, err := d.Bookmarks(t.Context(), dataset); err != nil || len(marked) != 1 || !marked[first.GUID] {
		t.Errorf("bookmarks are %v, %v", marked, err)
	}
	if err := d.Delete(t.Context(), first); !errors.Is(err, fs.ErrBusy) {
		t.Errorf("delete what a user holds: got %v", err)
	}
	if err := firstOf(d.Protect(t.Context(), "cc", second, nil), d.Delete(t.Context(), second)); err != nil || there(t, b) {
		t.Errorf("delete what only we hold: %v", err)
	}
}

// TestBases: a base lives on as a bookmark; without that the next older one
// serves; what is not an ancestor is no base.
func TestBases(t *testing.T) {
	pool := newPool(t, 256<<20)
	d := New()
	sh(t, "zfs", "create", pool+"/a")
	dir := mountpoint(t, pool+"/a")
	dataset := located(t, dir)
	var made []fs.Snapshot
	for _, id := range []string{"a", "b", "c"} {
		if err := os.WriteFile(dir+"/"+id, []byte(id), 0o600); err != nil {
			t.Fatal(err)
		}
		made = append(made, take(t, id, dataset)[0])
	}
	guids := func() (out []string) {
		all, err := d.Bases(t.Context(), dataset)
		if err != nil {
			t.Fatal(err)
		}
		for _, b := range all {
			out = append(out, b.GUID)
		}
		return out
	}
	want := []string{made[0].GUID, made[1].GUID, made[2].GUID}
	if got := guids(); !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	for _, s := range made[:2] {
		if err := d.Shipped(t.Context(), "aa", s); err != nil {
			t.Fatal(err)
		}
	}
	sh(t, "zfs", "destroy", pool+"/a@"+made[0].Name+"%"+made[1].Name)
	if got := guids(); !slices.Equal(got, want) {
		t.Errorf("with bookmarks only: got %q, want %q", got, want)
	}
	onBookmark := read(t, d, made[2], &made[1])
	if len(onBookmark) == 0 {
		t.Error("nothing is sent")
	}
	sh(t, "zfs", "destroy", pool+"/a#"+made[1].Name)
	if got := guids(); !slices.Equal(got, []string{made[0].GUID, made[2].GUID}) {
		t.Errorf("without its bookmark: got %q", got)
	}
	if _, err := d.Send(t.Context(), made[2], &made[1]); !errors.Is(err, fs.ErrBase) {
		t.Errorf("got %v, want ErrBase", err)
	}
	if _, err := d.Send(t.Context(), made[2], &made[2]); !errors.Is(err, fs.ErrBase) {
		t.Errorf("on itself: got %v, want ErrBase", err)
	}
	size, err := d.Estimate(t.Context(), made[2], &made[0])
	if err != nil || size <= 0 {
		t.Errorf("estimate: %d, %v", size, err)
	}
}

// TestSweep removes what a dead process was building, and nothing else.
func TestSweep(t *testing.T) {
	pool := newPool(t, 256<<20)
	for name, owner := range map[string]string{
		fs.StageName("0123456789abcdef"): proc.BootID() + ".999999999.7",
		fs.StageName("1123456789abcdef"): proc.Mark(),
		fs.StageName("2123456789abcdef"): "",
		"snapd_restore_mine":             proc.BootID() + ".999999999.7",
	} {
		sh(t, "zfs", "create", pool+"/"+name)
		if owner != "" {
			sh(t, "zfs", "set", fs.PropertyOwner+"="+owner, pool+"/"+name)
		}
	}
	removed, err := New().Sweep(t.Context())
	if err != nil || !slices.Equal(removed, []string{pool + "/" + fs.StageName("0123456789abcdef")}) {
		t.Errorf("got %q, %v", removed, err)
	}
	for _, stays := range []string{fs.StageName("1123456789abcdef"), fs.StageName("2123456789abcdef"), "snapd_restore_mine"} {
		if !there(t, pool+"/"+stays) {
			t.Errorf("%s is gone", stays)
		}
	}
}
