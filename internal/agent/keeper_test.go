package agent

import (
	"errors"
	"os"
	"strings"
	"testing"

	"snapd/internal/advice"
	"snapd/internal/ship"
)

// A point that was dropped while a prune waited for its turn counts for no policy.
func TestAPruneCountsNoPointThatWasDroppedMeanwhile(t *testing.T) {
	b := newBench(t, `keep = "2 last"`, "main")
	var points []string
	for range 4 {
		points = append(points, string(b.take().ID))
		b.ship()
	}
	repos := b.repositories()
	defer repos.close()
	_, err := repos.get(t.Context(), "main") // as a run that has shipped has it
	b.check(err)
	_, err = b.Drop(t.Context(), DropOptions{Points: points[2:3]})
	b.check(err)
	_, err = b.prune(t.Context(), repos, PruneOptions{})
	b.check(err)
	var kept []string
	for _, r := range b.view("main").Points {
		kept = append(kept, string(r.ID))
	}
	if want := []string{points[1], points[3]}; strings.Join(kept, " ") != strings.Join(want, " ") {
		t.Errorf("kept %v, want %v of %v", kept, want, points)
	}
}

// The state of a host that was put back from a backup is not called another host,
// and adopt goes on from there.
func TestAStateThatWasPutBackIsAdopted(t *testing.T) {
	b := newBench(t, `keep = "3 last"`, "main")
	b.take()
	b.ship()
	b.check(os.CopyFS(b.path("backup"), os.DirFS(b.path("state"))))
	for range 2 {
		b.take()
		b.ship()
	}
	b.check(os.RemoveAll(b.path("state")))
	b.check(os.CopyFS(b.path("state"), os.DirFS(b.path("backup"))))
	var err error
	b.Agent, err = New(b.Options)
	b.check(err)
	b.take()
	_, err = b.Ship(t.Context(), nil)
	if !errors.Is(err, ErrOtherHost) || strings.Contains(err.Error(), "another host") ||
		!strings.Contains(err.Error(), "was put back to an older time") || !strings.Contains(err.Error(), "clone") ||
		!strings.Contains(advice.Of(err), "snapd adopt main") {
		t.Fatalf("%v; do %q", err, advice.Of(err))
	}
	_, err = b.Adopt(t.Context(), "")
	b.check(err)
	points := b.ship()
	if len(points) != 1 || points[0].Numbers["main"] != 4 || !b.whole() {
		t.Fatalf("shipped %+v", points)
	}
	for range 2 {
		b.take()
		done, err := b.Do(t.Context(), []string{"shop"}, Steps{Ship: true, Prune: true})
		b.check(err)
		if len(done.Points) != 1 {
			t.Errorf("shipped %+v", done.Points)
		}
	}
	if v := b.view("main"); len(v.Points) != 3 || len(v.Problems) != 0 || !b.whole() {
		t.Errorf("%d points, problems %+v", len(v.Points), v.Problems)
	}
}

// What one repository lacks is said once in a run, though the ship and the prune
// both meet it.
func TestARunTellsAFaultOnce(t *testing.T) {
	b := newBench(t, "", "main", "other")
	b.take()
	b.ship()
	b.take()
	b.down["main"] = true
	_, err := b.Do(t.Context(), []string{"shop"}, Steps{Ship: true, Prune: true})
	if err == nil || strings.Count(err.Error(), ship.ErrUnavailable.Error()) != 1 || strings.Contains(err.Error(), "prune repository main") {
		t.Errorf("%v", err)
	}
	b.down["main"] = false
	var warned []string
	b.Report = func(e Event) {
		if e.Kind == Warning {
			warned = append(warned, e.Text)
		}
	}
	b.check(os.MkdirAll(b.path("main/meta/points/0000000003"), 0o700)) // junk
	b.take()
	_, err = b.Do(t.Context(), []string{"shop"}, Steps{Ship: true, Prune: true})
	all := strings.Join(append(warned, err.Error()), "\n")
	if strings.Count(all, "is not explained") != 1 || strings.Contains(all, "repository main: meta/points/") {
		t.Errorf("said more than once:\n%s", all)
	}
}
