package agent

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"snapd/internal/advice"
	"snapd/internal/point"
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
	_, err = b.Agent.prune(t.Context(), repos, PruneOptions{})
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

// A kit tries each set of recipients that restore points were encrypted for, and says
// which it does not open.
func TestAKitTriesEachSetOfRecipients(t *testing.T) {
	b := newBench(t, "", "main")
	recipients := b.encrypt("main")
	var points []string
	for n, to := range []int{1, 1, 2} {
		recipients(to)
		points = append(points, string(b.take().ID))
		if done := b.ship(); len(done) != 1 {
			t.Fatalf("ship %d: %+v", n, done)
		}
	}
	repo, err := b.Open(t.Context(), b.Config.Repositories["main"], b.Report)
	b.check(err)
	sets, err := repo.OpenEach(t.Context())
	b.check(err)
	want := []ship.OpenedSet{{Point: point.ID(points[2]), Points: 1}, {Point: point.ID(points[1]), Points: 2}}
	if !slices.Equal(sets, want) { // this host has no identity, so that it opens none
		t.Errorf("got %+v, want %+v", sets, want)
	}
	p := Proved{Repository: "main", Point: point.ID(points[2]), Sets: []Set{{Point: "p3", Points: 1, Opened: true}, {Point: "p2", Points: 2}}}
	lines := strings.Join(p.Lines(), "\n")
	if !strings.Contains(lines, "restore point p3 was opened, the only one for its recipients.") ||
		!strings.Contains(lines, "restore point p2 was NOT opened, the newest of 2 for the same recipients; the others were not tried.") {
		t.Errorf("it says\n%s", lines)
	}
}

// What verify advises is what this host can do.
func TestVerifyAdvisesWhatThisHostCanDo(t *testing.T) {
	b := newBench(t, "", "main")
	b.take()
	p := b.ship()[0]
	segments, err := filepath.Glob(b.path("main/data/" + string(p.Shipped[0].Stream) + "/*"))
	b.check(err)
	b.check(os.Chmod(segments[0], 0o600))
	b.check(os.WriteFile(segments[0], []byte("spoiled"), 0o600))
	_, err = b.Verify(t.Context(), VerifyOptions{})
	if do := advice.Of(err); !errors.Is(err, advice.Damaged) || !strings.Contains(do, "its snapshots are all on this host") {
		t.Errorf("%v; do %q", err, do)
	}
	b.storage.Destroy(func(int) bool { return false })
	_, err = b.Verify(t.Context(), VerifyOptions{})
	if do := advice.Of(err); !strings.Contains(do, "nothing of what is damaged or lost has its snapshot on this host") {
		t.Errorf("%v; do %q", err, do)
	}
}

// A prune removes what killed writes left in the state directory, and nothing else.
func TestAPruneSweepsTheState(t *testing.T) {
	b := newBench(t, "", "main")
	b.take()
	b.ship()
	left := b.path("state/points/.new-123")
	b.check(os.WriteFile(left, []byte("half"), 0o600))
	old := time.Now().Add(-48 * time.Hour)
	b.check(os.Chtimes(left, old, old))
	_, err := b.Prune(t.Context(), nil, false)
	b.check(err)
	if _, err := os.Lstat(left); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("it is there: %v", err)
	}
}
