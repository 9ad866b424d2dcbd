package retain

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"snapd/internal/point"
)

func TestChainsStayShortWithThreeLocalSnapshots(t *testing.T) {
	var streams []Stream
	local := map[string]bool{}
	deepest := 0
	for n := range 1100 {
		c := Base(streams, func(guid string) bool { return local[guid] })
		if n > 0 && c.Base == nil {
			t.Fatalf("stream %d is a full one: %s", n, c.Why)
		}
		if c.Number != n {
			t.Fatalf("stream %d got number %d", n, c.Number)
		}
		s := Stream{ID: point.ID(fmt.Sprintf("%016d", n)), GUID: fmt.Sprint("g", n), Number: n, Depth: c.Depth}
		streams = append(streams, s)
		local[s.GUID] = true
		needed := Needed(streams, time.Time{})
		if len(needed) > 3 || !needed[s.GUID] {
			t.Fatalf("after stream %d %d snapshots are needed here: %v", n, len(needed), needed)
		}
		local = needed
		deepest = max(deepest, s.Depth)
	}
	if want := 15 + 15 + 1100/256; deepest > want {
		t.Errorf("deepest point has %d streams below it, want at most %d", deepest, want)
	}
}

func TestAChainThatIsTooDeepIsBegunAnew(t *testing.T) {
	c := Base([]Stream{{ID: "a", GUID: "a", Number: 7, Depth: MaxDepth}}, func(string) bool { return true })
	if c.Base != nil || c.Number != 8 || c.Depth != 0 || !strings.Contains(c.Why, "64 increments") {
		t.Errorf("%+v", c)
	}
}

func TestTheNextBestBaseServesWhenOneIsGone(t *testing.T) {
	streams := []Stream{{ID: "a", GUID: "a"}, {ID: "b", GUID: "b", Number: 1, Depth: 1}, {ID: "c", GUID: "c", Number: 2, Depth: 2}}
	if c := Base(streams, func(g string) bool { return g != "c" }); c.Base == nil || c.Base.GUID != "b" {
		t.Errorf("%+v", c)
	}
	if c := Base(streams, func(string) bool { return false }); c.Base != nil || !strings.Contains(c.Why, "no shipped snapshot") {
		t.Errorf("%+v", c)
	}
}

func TestPolicyKeepsTheNewestOfEachPeriod(t *testing.T) {
	now := time.Date(2026, 11, 21, 12, 30, 0, 0, time.UTC)
	var points []Candidate
	for h := range 24 * 40 { // one an hour for forty days
		at := now.Add(-time.Duration(h) * time.Hour)
		points = append(points, Candidate{ID: point.NewID(at), Time: at})
	}
	got, err := Apply(Policy{Hourly: 24, Daily: 7, Weekly: 4, Monthly: 12}, points, now)
	if err != nil {
		t.Fatal(err)
	}
	kept := map[string]int{}
	for _, d := range got {
		if d.Keep {
			kept[strings.Fields(d.Reason)[0]]++
		}
	}
	// The newest of this day, this and the last week, and of this month are
	// among the hourly and daily ones already, so their rule counts them there.
	want := map[string]int{"hourly": 24, "daily": 5, "weekly": 2, "monthly": 1}
	if fmt.Sprint(kept) != fmt.Sprint(want) {
		t.Errorf("kept %v, want %v", kept, want)
	}
}

func TestPolicyNeverDropsEverything(t *testing.T) {
	now := time.Now()
	if _, err := Apply(Policy{}, []Candidate{{ID: "a", Time: now}}, now); !errors.Is(err, ErrEmpty) {
		t.Errorf("an empty policy: %v", err)
	}
	got, err := Apply(Policy{Last: 1}, []Candidate{{ID: "a", Time: now.Add(-time.Hour)}, {ID: "b", Time: now.Add(time.Hour)}}, now)
	if err != nil || !got[0].Keep || !strings.Contains(got[0].Reason, "future") {
		t.Errorf("%+v %v", got, err)
	}
}
