package agent

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
)

// TestSnapshotsOfOthersAreOnlyCounted: forty of them do not hide a dataset that no
// point has, and a run says only what is new.
func TestSnapshotsOfOthersAreOnlyCounted(t *testing.T) {
	b := newBench(t, "")
	b.storage.Foreign = map[string]bool{}
	for i := range 40 {
		name := b.path(fmt.Sprintf("data/.snapshots/%d/snapshot", i))
		_, err := b.storage.Add(name)
		b.check(err)
		b.storage.Foreign[name] = true
	}
	missing := b.path("data/zz the database\x1b[2J")
	_, err := b.storage.Add(missing)
	b.check(err)
	var told, done []string
	b.Report = func(e Event) {
		if e.Kind == Warning {
			told, done = append(told, e.Text), append(done, e.Do)
		}
	}
	lines := func(name string) string { return "not covered: " + name + ", a dataset of its own" }
	p := b.take()
	if !slices.Equal(told, []string{lines(missing)}) || !slices.Equal(done, []string{"add what matters of it to paths in [group.shop]"}) || !slices.Equal(p.Warnings, told) {
		t.Errorf("the first run said %q, to do %q; the point has %q", told, done, p.Warnings)
	}
	survey, err := b.Survey(t.Context())
	b.check(err)
	g := survey.Groups[0]
	if len(g.Warnings) != 1 || len(g.Dos) != 1 || !slices.ContainsFunc(g.Notes, func(n string) bool {
		return strings.Contains(n, "snapshots that other programs keep") && strings.HasSuffix(n, ": 40")
	}) {
		t.Errorf("the survey says %q, %q and %q", g.Warnings, g.Dos, g.Notes)
	}
	told = nil
	b.take()
	if !slices.Equal(told, []string{"1 warning as before, see snapd status"}) {
		t.Errorf("the second run said %q", told)
	}
	for i := range 12 {
		_, err := b.storage.Add(b.path(fmt.Sprintf("data/new %02d", i)))
		b.check(err)
	}
	told = nil
	p = b.take()
	// The last one sorted is beyond the ten that are named.
	if len(told) != 11 || told[0] != lines(b.path("data/new 00")) || told[10] != "not covered: 3 more below its paths, each a dataset of its own" || len(p.Warnings) != 11 {
		t.Errorf("the third run said %q", told)
	}
	if _, g := b.status(); len(g.Attention) < 11 || g.Attention[0] != lines(b.path("data/new 00")) {
		t.Errorf("status says %q", g.Attention)
	}
	b.check(os.RemoveAll(missing))
}

func TestGravestFirst(t *testing.T) {
	all := []string{"container x writes too", "left out: a", "the window was long", "not covered: b"}
	gravestFirst(all)
	if want := []string{"left out: a", "not covered: b", "container x writes too", "the window was long"}; !slices.Equal(all, want) {
		t.Errorf("got %q", all)
	}
}
