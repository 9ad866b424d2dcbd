package retain

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"snapd/internal/point"
)

func all(string) bool { return true }

// hourly are points an hour apart, oldest first, each with the datasets that its
// word has, a letter each.
func hourly(now time.Time, words ...string) []Candidate {
	var out []Candidate
	for i, w := range words {
		at := now.Add(time.Duration(i-len(words)) * time.Hour)
		c := Candidate{ID: point.ID(fmt.Sprintf("%03d", i)), Time: at, Order: int64(i + 1)}
		for _, letter := range w {
			c.Has = append(c.Has, Dataset{Origin: string(letter), Name: "btrfs /" + string(letter)})
		}
		out = append(out, c)
	}
	return out
}

func kept(decisions []Decision) string {
	var out []string
	for _, d := range decisions {
		if d.Keep {
			out = append(out, string(d.ID))
		}
	}
	slices.Sort(out)
	return strings.Join(out, " ")
}

func TestEachDatasetHasAHistory(t *testing.T) {
	now := time.Now()
	for _, c := range []struct {
		name   string
		points []Candidate
		policy Policy
		gone   string // datasets that were given up
		want   string
	}{
		{"all the same", hourly(now, "ab", "ab", "ab", "ab"), Policy{Last: 2}, "", "002 003"},
		{"not mounted for five runs", hourly(now, "a", "a", "a", "p", "p", "p", "p", "p"), Policy{Last: 3}, "", "000 001 002 005 006 007"},
		{"given up", hourly(now, "a", "a", "a", "p", "p", "p", "p", "p"), Policy{Last: 3}, "a", "005 006 007"},
		{"and back again", hourly(now, "a", "p", "p", "a", "a"), Policy{Last: 2}, "", "001 002 003 004"},
		{"one of two", hourly(now, "ab", "ab", "a", "a", "a"), Policy{Last: 1}, "", "001 004"},
		{"a new one pushes nothing out and keeps nothing more", hourly(now, "a", "a", "ab", "ab", "ab"), Policy{Last: 2}, "", "003 004"},
		{"none is known", hourly(now, "", "", ""), Policy{Last: 1}, "", "002"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := ApplyEach(c.policy, c.points, func(origin string) bool { return !strings.Contains(c.gone, origin) || origin == "" }, now)
			if err != nil || kept(got) != c.want {
				t.Errorf("kept %s, want %s, %v: %+v", kept(got), c.want, err, got)
			}
		})
	}
	got, _ := ApplyEach(Policy{Last: 2}, hourly(now, "a", "a", "p", "p"), all, now)
	if got[2].Reason != "last 1 of 2 of those with btrfs /a" {
		t.Errorf("the reason does not say which: %+v", got)
	}
	if _, err := ApplyEach(Policy{}, nil, all, now); err == nil {
		t.Error("an empty policy keeps nothing")
	}
}

// Whatever came and went: of each dataset the newest point that has it stays, the
// rules hold in its history, and prunes after each point never lose more than one
// at the end would.
func TestRandomHistoriesKeepTheLastOfEachDataset(t *testing.T) {
	now := time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)
	for seed := range uint64(60) {
		r := rand.New(rand.NewPCG(seed, 1))
		policy := Policy{Last: r.IntN(4), Hourly: r.IntN(4), Daily: r.IntN(3)}
		if policy == (Policy{}) {
			policy.Last = 1
		}
		var words []string
		for range 3 + r.IntN(40) {
			word := ""
			for _, letter := range "abcd" {
				if r.IntN(3) > 0 {
					word += string(letter)
				}
			}
			words = append(words, word)
		}
		var left []Candidate
		for _, c := range hourly(now, words...) {
			left = append(left, c)
			decisions, err := ApplyEach(policy, left, all, now)
			if err != nil {
				t.Fatal(err)
			}
			stays := map[point.ID]bool{}
			for _, d := range decisions {
				stays[d.ID] = d.Keep
			}
			left = slices.DeleteFunc(left, func(c Candidate) bool { return !stays[c.ID] })
		}
		for _, letter := range "abcd" {
			had := slices.IndexFunc(words, func(w string) bool { return strings.ContainsRune(w, letter) }) >= 0
			newest := -1
			for i, w := range words {
				if strings.ContainsRune(w, letter) {
					newest = i
				}
			}
			id := point.ID(fmt.Sprintf("%03d", newest))
			if had && !slices.ContainsFunc(left, func(c Candidate) bool { return c.ID == id }) {
				t.Fatalf("seed %d: the last point with %c is gone: %v, left %v", seed, letter, words, left)
			}
		}
	}
}

// Thousands of points of many datasets cost as much as their names.
func TestHistoriesAreLinear(t *testing.T) {
	now := time.Now()
	var points []Candidate
	for i := range 1000 {
		c := Candidate{ID: point.ID(fmt.Sprintf("%05d", i)), Time: now.Add(time.Duration(i-3000) * time.Minute)}
		for d := range 20 {
			if d != i/50 {
				c.Has = append(c.Has, Dataset{Origin: fmt.Sprint(d), Name: fmt.Sprint("zfs tank/", d)})
			}
		}
		points = append(points, c)
	}
	begin := time.Now()
	if _, err := ApplyEach(Policy{Last: 3, Hourly: 24, Daily: 7}, points, all, now); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(begin); took > 5*time.Second {
		t.Errorf("it took %v", took)
	}
}
