package plan

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"snapd/internal/point"
)

// made makes a point of words such as "db:/data=a/x", a member's target in dataset
// a at path x; a + behind says that it has entries, a - that it is empty, and ? that
// it cannot be told. A word without = is a dataset that no item names.
func made(n int, words ...string) point.Point {
	at := time.Date(2026, 11, 26, n, 0, 0, 0, time.UTC)
	p := point.Point{ID: point.ID(fmt.Sprintf("%016d", n)), Group: "shop", Time: at}
	dataset := func(origin string) {
		if !slices.ContainsFunc(p.Datasets, func(d point.Dataset) bool { return d.Origin == origin }) {
			p.Datasets = append(p.Datasets, point.Dataset{Driver: "btrfs", Dataset: "/" + origin[:1], Origin: origin})
		}
	}
	for _, w := range words {
		name, place, named := strings.Cut(w, "=")
		if !named {
			dataset(name)
			continue
		}
		member, target, _ := strings.Cut(name, ":")
		item := point.Item{Kind: point.ItemBind, Project: "shop", Member: member, Target: target, Empty: new(place[len(place)-1] == '-')}
		if strings.HasPrefix(target, "anon") {
			item.Kind, item.Volume = point.ItemVolume, strings.Repeat("0", 64)
		}
		if place[len(place)-1] == '?' {
			item.Empty = nil
		}
		origin, path, _ := strings.Cut(strings.TrimRight(place, "+-?"), "/")
		if path == "" {
			path = "."
		}
		item.Place = point.Place{Driver: "btrfs", Dataset: "/" + origin[:1], Origin: origin, Path: path}
		dataset(origin)
		p.Items = append(p.Items, item)
	}
	return p
}

func none(point.Change) bool { return false }

// history takes the points one after the other and returns the last.
func history(accept map[int]bool, points ...point.Point) point.Point {
	var last point.Point
	var accepted []point.Change
	for n, p := range points {
		p.Items, p.Changed = Changes(last, p, func(c point.Change) bool { return slices.ContainsFunc(accepted, c.Same) })
		if last = p; accept[n] {
			accepted = append(accepted, p.Changed...)
		}
	}
	return last
}

func said(p point.Point) string {
	var out []string
	for _, c := range p.Changed {
		out = append(out, fmt.Sprintf("%s %s %d", c.What, c.Item, c.Since.Time.Hour()))
	}
	return strings.Join(out, ", ")
}

func TestChanges(t *testing.T) {
	for _, c := range []struct {
		name   string
		points [][]string
		accept int // after which point, from 1
		want   string
	}{
		{name: "the first", points: [][]string{{"db:/data=a+"}}},
		{name: "as it was", points: [][]string{{"db:/data=a+"}, {"db:/data=a+"}}},
		{name: "something new", points: [][]string{{"db:/data=a+"}, {"db:/data=a+", "web:/srv=b+"}}},
		{name: "not mounted", points: [][]string{{"db:/data=a+"}, {"db:/data=p/srv+"}, {"db:/data=p/srv+"}, {"db:/data=p/srv+"}}, want: "exchanged /data of db 1"},
		{name: "and mounted again", points: [][]string{{"db:/data=a+"}, {"db:/data=p/srv+"}, {"db:/data=a+"}}},
		{name: "and somewhere else", points: [][]string{{"db:/data=a+"}, {"db:/data=p/srv+"}, {"db:/data=q+"}}, want: "exchanged /data of db 1"},
		{name: "and lost", points: [][]string{{"db:/data=a+"}, {"db:/data=p/srv+"}, {"web:/x=b+"}}, want: "lost /data of db 1"},
		{name: "made anew", points: [][]string{{"db:/data=a1+"}, {"db:/data=a2-"}}, want: "exchanged /data of db 1"},
		{name: "moved", points: [][]string{{"db:/data=a/x+"}, {"db:/data=a/y+"}}, want: "moved /data of db 1"},
		{name: "emptied", points: [][]string{{"db:/data=a+"}, {"db:/data=a-"}, {"db:/data=a-"}}, want: "empty /data of db 1"},
		{name: "emptied and filled", points: [][]string{{"db:/data=a+"}, {"db:/data=a-"}, {"db:/data=a+"}}},
		{name: "emptied, and then it cannot be told", points: [][]string{{"db:/data=a+"}, {"db:/data=a-"}, {"db:/data=a?"}}, want: "empty /data of db 1"},
		{name: "it could not be told in between", points: [][]string{{"db:/data=a+"}, {"db:/data=a?"}, {"db:/data=a-"}}, want: "empty /data of db 2"},
		{name: "always empty", points: [][]string{{"db:/data=a-"}, {"db:/data=a-"}}},
		{name: "never told", points: [][]string{{"db:/data=a?"}, {"db:/data=a-"}}},
		{name: "empty at times, as is accepted", points: [][]string{{"db:/data=a+"}, {"db:/data=a-"}, {"db:/data=a+"}, {"db:/data=a-"}}, accept: 2},
		{name: "a service left", points: [][]string{{"db:/data=a+", "web:/srv=b+"}, {"web:/srv=b+"}}, want: "lost /data of db 1"},
		{name: "a service left one dataset", points: [][]string{{"db:/data=a/1+", "web:/srv=a/2+"}, {"web:/srv=a/2+"}}, want: "lost /data of db 1"},
		{name: "a service has another name", points: [][]string{{"db:/data=a/1+"}, {"base:/data=a/1+"}}},
		{name: "a mount of all of it takes its place", points: [][]string{{"db:/data=a/1+"}, {"base:/all=a+"}}},
		{name: "accepted", points: [][]string{{"db:/data=a+", "web:/srv=b+"}, {"web:/srv=b+"}, {"web:/srv=b+"}}, accept: 2},
		{name: "accepted, and then something else", points: [][]string{{"db:/data=a+", "web:/srv=b+"}, {"web:/srv=b+"}, {"web:/srv=c+"}}, accept: 2, want: "exchanged /srv of web 2"},
		{name: "a new one in between is lost too", points: [][]string{{"db:/data=a+"}, {"db:/data=p+", "web:/srv=b+"}, {"db:/data=p+"}}, want: "exchanged /data of db 1, lost /srv of web 2"},
		{name: "two of a service", points: [][]string{{"web:/x=a/1+", "web:/x=a/2+"}, {"web:/x=a/2+"}}, want: "lost /x of web 1"},
		{name: "two of a service in another order", points: [][]string{{"web:/x=a/1+", "web:/x=a/2+"}, {"web:/x=a/2+", "web:/x=a/1+"}}},
		{name: "an anonymous volume made anew", points: [][]string{{"db:anon=a/1+"}, {"db:anon=a/2-"}}, want: "moved anon of db 1"},
		{name: "and that was empty", points: [][]string{{"db:anon=a/1-"}, {"db:anon=a/2-"}}},
		{name: "a dataset below an item", points: [][]string{{"db:/data=a+", "n"}, {"db:/data=a+"}, {"db:/data=a+"}}, want: "lost dataset btrfs /n 1"},
		{name: "an older program's point", points: [][]string{{"a"}, {"db:/data=p+"}}, want: "lost dataset btrfs /a 1"},
		{name: "what stood in for it is not missed", points: [][]string{{"db:/data=a+"}, {"db:/data=p+"}, {"db:/data=a+"}, {"db:/data=a+"}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			var points []point.Point
			for n, words := range c.points {
				points = append(points, made(n, words...))
			}
			if got := said(history(map[int]bool{c.accept - 1: true}, points...)); got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

func TestAChangeIsOneLine(t *testing.T) {
	for want, points := range map[string][][]string{
		"/data of db was btrfs /a and is srv in btrfs /p, since point 0000000000000001 of 2026-11-26 01:00 UTC":     {{"db:/data=a+"}, {"db:/data=p/srv+"}},
		"/data of db was made anew (btrfs /a), since point 0000000000000001 of 2026-11-26 01:00 UTC":                {{"db:/data=a1+"}, {"db:/data=a2-"}},
		"/data of db is empty, and was not (btrfs /a), since point 0000000000000001 of 2026-11-26 01:00 UTC":        {{"db:/data=a+"}, {"db:/data=a-"}},
		"/data of db (btrfs /a) is not in the group any more, since point 0000000000000001 of 2026-11-26 01:00 UTC": {{"db:/data=a+", "c"}, {"c"}},
		"dataset btrfs /n is not in the group any more, since point 0000000000000001 of 2026-11-26 01:00 UTC":       {{"n", "c"}, {"c"}},
		"/data of db was x in btrfs /a and is y in btrfs /a, since point 0000000000000001 of 2026-11-26 01:00 UTC":  {{"db:/data=a/x+"}, {"db:/data=a/y+"}},
	} {
		p := history(nil, made(0, points[0]...), made(1, points[1]...))
		if len(p.Changed) != 1 || p.Changed[0].String() != want {
			t.Errorf("got %v, want %s", p.Changed, want)
		}
	}
}

// Whatever happens in between: when everything is as it was in the first point, no
// mark is left; and what is missing of the first point is always said.
func TestRandomChangesEndWhenAllIsAsItWas(t *testing.T) {
	first := []string{"db:/data=a+", "web:/srv=b/1+", "web:/www=b/2+", "n"}
	for seed := range uint64(300) {
		r := rand.New(rand.NewPCG(seed, 2))
		points := []point.Point{made(0, first...)}
		missing := false
		for n := range 1 + r.IntN(5) {
			var words []string
			missing = false
			for _, w := range first {
				switch name, _, named := strings.Cut(w, "="); {
				case r.IntN(3) == 0:
					missing = true
				case r.IntN(3) == 0 && named:
					words, missing = append(words, fmt.Sprintf("%s=%c%d+", name, 'p'+rune(r.IntN(3)), r.IntN(2))), true
				default:
					words = append(words, w)
				}
			}
			points = append(points, made(n+1, words...))
		}
		if got := history(nil, points...); missing != (len(got.Changed) > 0) {
			t.Fatalf("seed %d: missing %v, said %q", seed, missing, said(got))
		}
		points = append(points, made(9, first...))
		got, changed := Changes(history(nil, points[:len(points)-1]...), points[len(points)-1], none)
		if len(changed) > 0 || len(got) != 3 {
			t.Fatalf("seed %d: all is as it was, and it says %v", seed, changed)
		}
	}
}
