//go:build guest && long

package zfs

import (
	"fmt"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"snapd/internal/fs"
)

// many makes so many datasets in one pool, by one program.
func many(t testing.TB, pool string, n int) []fs.Dataset {
	t.Helper()
	var script strings.Builder
	for i := range n {
		fmt.Fprintf(&script, "zfs create -u '%s/set %03d' || exit 1\n", pool, i)
	}
	sh(t, "sh", "-c", script.String())
	objects, err := list(t.Context(), pool, "-r", pool)
	if err != nil {
		t.Fatal(err)
	}
	where, err := domain(t.Context(), pool)
	if err != nil {
		t.Fatal(err)
	}
	var out []fs.Dataset
	for _, o := range objects {
		if o.name != pool {
			out = append(out, fs.Dataset{Driver: fs.ZFS, Name: o.name, GUID: guidText(o.guid), Domain: where})
		}
	}
	if len(out) != n {
		t.Fatalf("%d datasets, want %d", len(out), n)
	}
	return out
}

// TestTwoHundred takes 200 datasets at one instant, and compares the window
// with zfs snapshot of the same datasets by hand, turn by turn.
func TestTwoHundred(t *testing.T) {
	pool := newPool(t, 1<<30)
	datasets := many(t, pool, 200)
	var ours, theirs []time.Duration
	for round := range 7 {
		p, err := New().Prepare(t.Context(), fs.SnapshotName(testTime, fmt.Sprint("a", round)), datasets)
		if err != nil {
			t.Fatal(err)
		}
		begin := time.Now()
		err = p.Take()
		ours = append(ours, time.Since(begin))
		made, more := p.Result(t.Context())
		if err := firstOf(err, more, p.Close()); err != nil {
			t.Fatal(err)
		}
		if len(made) != len(datasets) {
			t.Fatalf("%d snapshots, want %d", len(made), len(datasets))
		}
		for _, s := range made {
			if s.Order != made[0].Order {
				t.Errorf("%s was taken in transaction group %d, the first in %d", s.Dataset.Name, s.Order, made[0].Order)
			}
		}
		argv := []string{"snapshot"}
		for _, d := range datasets {
			argv = append(argv, fmt.Sprintf("%s@hand%d", d.Name, round))
		}
		sh(t, "zpool", "sync", pool)
		begin = time.Now()
		if out, err := exec.Command("zfs", argv...).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		theirs = append(theirs, time.Since(begin))
	}
	slices.Sort(ours)
	slices.Sort(theirs)
	ratio := float64(ours[len(ours)/2]) / float64(theirs[len(theirs)/2])
	t.Logf("200 datasets: window %v, zfs snapshot by hand %v (medians of %d), ratio %.2f; all of ours %v, theirs %v", ours[len(ours)/2], theirs[len(theirs)/2], len(ours), ratio, ours, theirs)
	if ratio > 1.3 {
		t.Errorf("the window takes %.2f times as long", ratio)
	}
}
