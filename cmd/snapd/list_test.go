package main

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"snapd/internal/advice"
	"snapd/internal/point"
	"snapd/internal/show"
)

func TestMoment(t *testing.T) {
	zone := time.FixedZone("CEST", 2*60*60)
	now := time.Date(2026, 7, 1, 12, 0, 0, 0, zone)
	for text, want := range map[string]time.Time{
		"2026-06-30":           time.Date(2026, 6, 30, 0, 0, 0, 0, zone),
		"2026-06-30 14:05":     time.Date(2026, 6, 30, 14, 5, 0, 0, zone),
		"2026-06-30T14:05":     time.Date(2026, 6, 30, 14, 5, 0, 0, zone),
		"2026-06-30 14:05:09":  time.Date(2026, 6, 30, 14, 5, 9, 0, zone),
		"2026-06-30T14:05:09Z": time.Date(2026, 6, 30, 14, 5, 9, 0, time.UTC),
		"36h":                  now.Add(-36 * time.Hour),
		"7d":                   now.AddDate(0, 0, -7),
	} {
		if got, err := moment(text, now); err != nil || !got.Equal(want) {
			t.Errorf("%s: %v, %v, want %v", text, got, err, want)
		}
	}
	for _, text := range []string{"yesterday", "2026-13-01", "-3h", "7", "0d"} {
		if got, err := moment(text, now); !errors.Is(err, advice.Usage) || advice.Of(err) == "" {
			t.Errorf("%s: %v, %v", text, got, err)
		}
	}
}

func TestWhichPoints(t *testing.T) {
	now := time.Date(2026, 7, 1, 12, 0, 0, 0, time.UTC)
	var points []point.Point
	for i, group := range []string{"shop", "mail", "shop", "shop", "mail"} {
		points = append(points, point.Point{ID: point.ID(fmt.Sprint("p", i)), Group: group, Time: now.Add(time.Duration(i-5) * time.Hour)})
	}
	for _, c := range []struct {
		which whichPoints
		want  string
	}{
		{whichPoints{}, "p0 p1 p2 p3 p4"},
		{whichPoints{last: 1}, "p3 p4"},
		{whichPoints{last: 2}, "p1 p2 p3 p4"},
		{whichPoints{last: 9}, "p0 p1 p2 p3 p4"},
		{whichPoints{since: "3h"}, "p2 p3 p4"},
		{whichPoints{since: "3h", last: 1}, "p3 p4"},
		{whichPoints{since: "2026-07-02"}, ""},
	} {
		if err := c.which.check(now); err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, p := range c.which.of(points) {
			got = append(got, string(p.ID))
		}
		if strings.Join(got, " ") != c.want {
			t.Errorf("since %q, last %d: %v, want %s", c.which.since, c.which.last, got, c.want)
		}
	}
	if len(points) != 5 || points[0].ID != "p0" {
		t.Errorf("the list of the caller was changed: %v", points)
	}
	if err := (&whichPoints{last: -1}).check(now); !errors.Is(err, advice.Usage) {
		t.Errorf("last -1: %v", err)
	}
}

// TestPointsFitTheTerminal: no line of the table is longer than the terminal is wide,
// down to 80 columns, and what is wrong with a point stands in it.
func TestPointsFitTheTerminal(t *testing.T) {
	base := point.ID("06h1jmrqncyd1xyq")
	shippedTo := func(repositories ...string) (all []point.Shipped) {
		for i, name := range repositories {
			all = append(all, point.Shipped{Repository: name, Dataset: "/srv/shop", StoredBytes: 205 << 20, SentBytes: 2 << 30, Base: map[bool]*point.ID{true: &base}[i > 0]})
		}
		return all
	}
	p := func(group string, states []point.State, shipped []point.Shipped) point.Point {
		return point.Point{
			ID: base, Group: group, Time: time.Date(2026, 7, 1, 12, 0, 0, 0, time.Local), Consistency: point.Quiesced, WindowUS: 123456,
			States: states, Shipped: shipped, Numbers: map[string]int64{"main": 1, "another place": 2},
		}
	}
	points := []point.Point{
		p("shop", nil, shippedTo("main")),
		p("", []point.State{{State: point.Damaged, Repository: "main"}}, shippedTo("main", "another place")),
		p("a group with a long name, ü", []point.State{{State: point.Pinned, Repository: "main"}, {State: point.Damaged, Repository: "another place"}}, shippedTo("main", "another place")),
		p("shop", []point.State{{State: point.OnlyHere}}, nil),
	}
	for _, width := range []int{80, 100, 132, 300} {
		var out bytes.Buffer
		c := &cli{stdout: show.Writer(&out), width: width}
		c.points(slices.Clone(points))
		lines := strings.Split(strings.TrimSuffix(out.String(), "\n"), "\n")
		for _, line := range lines {
			if n := utf8.RuneCountInString(line); n > width {
				t.Errorf("%d of %d columns: %s", n, width, line)
			}
		}
		for i, want := range []string{"POINT", "ok", "damaged", "damaged", "only here"} {
			if len(lines) != 5 || !strings.Contains(lines[i], want) {
				t.Errorf("%d columns, line %d: want %q in\n%s", width, i, want, &out)
				break
			}
		}
		if wide := strings.Contains(lines[0], "DATASETS"); wide != (width == 300) {
			t.Errorf("%d columns: all columns: %v", width, wide)
		}
	}
	var out bytes.Buffer
	c := &cli{stdout: show.Writer(&out)} // no terminal: programs read it
	c.points(points)
	if !strings.Contains(out.String(), "DATASETS") {
		t.Errorf("got\n%s", &out)
	}
}
