package agent

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"snapd/internal/advice"
	"snapd/internal/config"
	"snapd/internal/point"
)

// nested has the group on a dataset of its own, below another one: when it is not
// mounted, its path lies in that.
func nested(t *testing.T, group string, repositories ...string) *bench {
	t.Helper()
	b := newBench(t, group, repositories...)
	var err error
	b.dataset, err = b.storage.Add(b.path("data/my db@ö"))
	b.check(err)
	b.groups(group, b.path("data/my db@ö"))
	b.write("my db@ö/orders", "a year of them")
	return b
}

// groups has the group on other paths.
func (b *bench) groups(settings string, paths ...string) {
	b.t.Helper()
	text := fmt.Sprintf("[group.shop]\npaths = [%s]\n%s\n", quoted(paths), settings)
	conf, err := config.Parse("test.toml", []byte(text))
	b.check(err)
	conf.Repositories = b.Config.Repositories
	b.Config = conf
}

func quoted(words []string) string {
	var out []string
	for _, w := range words {
		out = append(out, fmt.Sprintf("%q", w))
	}
	return strings.Join(out, ", ")
}

// unmount takes the dataset away, and the application begins anew on its parent.
func (b *bench) unmount() {
	b.t.Helper()
	b.check(b.storage.Remove(b.dataset.GUID, false))
	b.check(os.MkdirAll(b.path("data/my db@ö"), 0o755))
	b.write("my db@ö/orders", "none yet")
}

// runs runs the group once an hour, and returns the last point and error.
func (b *bench) runs(n int) (p point.Point, err error) {
	b.t.Helper()
	for range n {
		b.now = b.now.Add(time.Hour)
		var done Done
		done, err = b.Do(b.t.Context(), []string{"shop"}, Steps{Snapshot: true, Ship: len(b.Config.Repositories) > 0, Prune: true})
		if len(done.Points) == 0 {
			b.t.Fatalf("no point: %v", err)
		}
		p = done.Points[len(done.Points)-1]
	}
	return p, err
}

// with counts the points that have a dataset, in the repository or here.
func (b *bench) with(origin string) int {
	b.t.Helper()
	n := 0
	if len(b.Config.Repositories) > 0 {
		for _, p := range b.view("main").Points {
			for _, s := range p.Streams {
				if s.Origin == origin {
					n++
				}
			}
		}
		return n
	}
	for _, s := range b.storage.All() {
		if s.Dataset.GUID == origin {
			n++
		}
	}
	return n
}

// Five runs of a dataset that was not mounted push no good point out, and say so
// each time: number 1 of the issue.
func TestADatasetThatWasNotMounted(t *testing.T) {
	const policy = "keep = \"3 last\"\nkeep-local = \"1h\""
	for name, repositories := range map[string][]string{"here": nil, "in a repository": {"main"}} {
		t.Run(name, func(t *testing.T) {
			b := nested(t, policy, repositories...)
			good, err := b.runs(4)
			b.check(err)
			origin := b.dataset.GUID
			b.unmount()
			p, err := b.runs(5)
			if !errors.Is(err, advice.Partial) || !strings.HasPrefix(err.Error(), "group shop has changed: point "+string(p.ID)) || !strings.Contains(advice.Of(err), "snapd accept shop") {
				t.Errorf("%v (%s)", err, advice.Of(err))
			}
			if len(p.Changed) != 1 || p.Changed[0].What != point.ItemExchanged || p.Changed[0].Was.Origin != origin || p.Changed[0].Since.Point == p.ID {
				t.Errorf("%+v", p.Changed)
			}
			if n := b.with(origin); n != 3 {
				t.Errorf("%d good points are left, want 3", n)
			}
			if st, g := b.status(); len(g.Changed) != 1 || !strings.HasPrefix(g.Attention[0], "changed: ") || !strings.Contains(g.Attention[0], "snapd accept shop") {
				t.Errorf("%+v %+v", st, g)
			}
			if !slices.Contains(b.states(p.ID), point.Changed) || slices.Contains(b.states(good.ID), point.Changed) {
				t.Errorf("list says %v, and of the good one %v", b.states(p.ID), b.states(good.ID))
			}
			where := ""
			if repositories == nil {
				where = Local
			}
			o := RestoreOptions{Point: "latest:shop", To: "btrfs:" + b.path("back"), Repository: where}
			if _, err := b.Restore(t.Context(), o); err == nil || !strings.Contains(advice.Of(err), string(good.ID)) {
				t.Errorf("the latest was restored, or the one before is not named: %v (%s)", err, advice.Of(err))
			}
			o.Point = string(good.ID)
			_, err = b.Restore(t.Context(), o)
			b.check(err)
			if text, err := os.ReadFile(b.path("back/orders")); err != nil || string(text) != "a year of them" {
				t.Errorf("restored %q, %v", text, err)
			}
			o.Point, o.To = string(p.ID), "btrfs:"+b.path("as it is")
			_, err = b.Restore(t.Context(), o)
			b.check(err)

			// Mounted again, all is well, and what was written meanwhile is not lost.
			b.check(os.RemoveAll(b.path("data/my db@ö")))
			b.check(b.storage.Return(origin))
			b.write("my db@ö/orders", "a year of them")
			p, err = b.runs(3)
			if err != nil || len(p.Changed) > 0 || slices.Contains(b.states(p.ID), point.Changed) {
				t.Errorf("mounted again: %v, %+v", err, p.Changed)
			}
			if _, g := b.status(); len(g.Changed) > 0 || !strings.Contains(strings.Join(g.Attention, "; "), "stay for its sake") {
				t.Errorf("%+v", g)
			}
			if n := b.with(origin); n < 3 {
				t.Errorf("%d good points", n)
			}
		})
	}
}

func TestAcceptLetsRetentionGoOn(t *testing.T) {
	b := nested(t, "keep = \"3 last\"\nkeep-local = \"1h\"", "main")
	if _, err := b.Accept(t.Context(), []string{"shop"}); err == nil {
		t.Error("a group without points was accepted")
	}
	good, err := b.runs(3)
	b.check(err)
	origin := b.dataset.GUID
	b.unmount()
	p, _ := b.runs(4)
	if _, err := b.Accept(t.Context(), []string{"shop", "shpo"}); err == nil || !errors.Is(err, advice.Usage) {
		t.Errorf("an unknown group: %v", err)
	}
	if got := b.acceptedOf("shop"); got.Point != "" {
		t.Error("a call with an unknown group accepted another")
	}
	got, err := b.Accept(t.Context(), []string{"shop", "shop"})
	b.check(err)
	if len(got) != 1 || got[0].Point != p.ID || len(got[0].Changed) != 1 || len(got[0].Gone) != 1 || got[0].Gone[0].Last != good.ID || got[0].Before != good.ID {
		t.Errorf("%+v", got)
	}
	if again, err := b.Accept(t.Context(), []string{"shop"}); err != nil || len(again[0].Changed)+len(again[0].Gone) > 0 {
		t.Errorf("twice: %+v, %v", again, err)
	}
	if _, g := b.status(); len(g.Changed) > 0 || slices.Contains(b.states(p.ID), point.Changed) {
		t.Errorf("accepted, and status says %+v", g)
	}
	p, err = b.runs(1)
	if err != nil || len(p.Changed) > 0 {
		t.Errorf("accepted, and then %v: %+v", err, p.Changed)
	}
	if n := b.with(origin); n != 0 {
		t.Errorf("%d points of what was accepted as gone", n)
	}
	o := RestoreOptions{Point: "latest:shop", To: "btrfs:" + b.path("back")}
	_, err = b.Restore(t.Context(), o)
	b.check(err)

	// Lost again after it came back, it is said again.
	b.check(os.RemoveAll(b.path("data/my db@ö")))
	b.check(b.storage.Return(origin))
	b.write("my db@ö/orders", "a year of them")
	if p, err = b.runs(1); len(p.Changed) != 1 || err == nil {
		t.Errorf("another dataset at its place: %+v", p.Changed)
	}
	_, err = b.Accept(t.Context(), []string{"shop"})
	b.check(err)
	_, err = b.runs(2)
	b.check(err)
	b.unmount()
	if p, err = b.runs(4); len(p.Changed) != 1 || err == nil || b.with(origin) != 3 {
		t.Errorf("lost again: %v, %d left", err, b.with(origin))
	}
}

// A dataset that is made anew and empty, one that is emptied, and a path that is
// taken out of the configuration.
func TestWhatElseChanges(t *testing.T) {
	const policy = `keep = "2 last"`
	for _, c := range []struct {
		name   string
		change func(b *bench)
		what   string
		left   int // points with the dataset that are left: those that have it whole, and the last two
	}{
		{"made anew", func(b *bench) {
			b.check(b.storage.Remove(b.dataset.GUID, false))
			_, err := b.storage.Add(b.path("data/my db@ö"))
			b.check(err)
		}, point.ItemExchanged, 2},
		{"emptied", func(b *bench) { b.check(os.Remove(b.path("data/my db@ö/orders"))) }, point.ItemEmptied, 4},
		{"out of the configuration", func(b *bench) {
			_, err := b.storage.Add(b.path("data/other"))
			b.check(err)
			b.groups(policy, b.path("data/other"))
		}, point.ItemLost, 2},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := nested(t, policy, "main")
			_, err := b.runs(2)
			b.check(err)
			origin := b.dataset.GUID
			c.change(b)
			p, err := b.runs(5)
			if len(p.Changed) != 1 || p.Changed[0].What != c.what || !errors.Is(err, advice.Partial) {
				t.Errorf("%v: %+v", err, p.Changed)
			}
			if n := b.with(origin); n != c.left {
				t.Errorf("%d points with it are left, want %d", n, c.left)
			}
			_, err = b.Accept(t.Context(), []string{"shop"})
			b.check(err)
			_, err = b.runs(1)
			b.check(err)
			if n := b.with(origin); n != c.left-2 {
				t.Errorf("accepted, and %d points with it are left", n)
			}
		})
	}
}

// Without the record, or on another host that prunes, what is signed tells which
// datasets a point has.
func TestHistoriesWithoutTheRecord(t *testing.T) {
	b := nested(t, "keep = \"3 last\"\nkeep-local = \"1h\"", "main")
	_, err := b.runs(3)
	b.check(err)
	origin := b.dataset.GUID
	b.unmount()
	_, _ = b.runs(2)
	b.check(os.RemoveAll(b.path("state/points")))
	b.check(os.MkdirAll(b.path("state/points"), 0o700))
	_, err = b.runs(5)
	b.check(err) // there is nothing to compare with any more
	if n := b.with(origin); n != 3 {
		t.Errorf("%d good points are left", n)
	}
	got, err := b.Accept(t.Context(), []string{"shop"})
	b.check(err)
	if len(got) != 1 {
		t.Errorf("%+v", got)
	}
	_, err = b.runs(1)
	b.check(err)
	if n := b.with(origin); n != 0 {
		t.Errorf("%d points of what was accepted as gone", n)
	}
}

// What a point is made of travels to a repository and back.
func TestItemsTravel(t *testing.T) {
	b := nested(t, "", "main")
	p, err := b.runs(1)
	b.check(err)
	want := point.Item{
		Kind: point.ItemPath, Target: b.path("data/my db@ö"), Source: b.path("data/my db@ö"), Empty: new(false), Filled: true,
		Place: point.Place{Driver: b.dataset.Driver, Dataset: b.dataset.Name, Origin: b.dataset.GUID, Path: "."},
	}
	there := b.view("main").Points[0].Secret.Items
	if len(p.Items) != 1 || fmt.Sprint(p.Items[0].Key(), p.Items[0].Place, *p.Items[0].Empty, p.Items[0].Filled) != fmt.Sprint(want.Key(), want.Place, false, true) {
		t.Errorf("%+v", p.Items)
	}
	if len(there) != 1 || there[0].Target != want.Target || there[0].Place != want.Place {
		t.Errorf("in the repository: %+v", there)
	}
}
