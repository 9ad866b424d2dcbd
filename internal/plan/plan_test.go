package plan

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"snapd/internal/config"
	"snapd/internal/fs"
	"snapd/internal/point"
)

func data(domain string, users ...string) Dataset {
	return Dataset{Dataset: fs.Dataset{Driver: fs.Btrfs, Name: "/srv/" + domain, Domain: domain}, Paths: []string{"/srv/" + domain}, Users: users}
}

func member(name string, change ...func(*Member)) Member {
	m := Member{Kind: "container", ID: name, Name: name, Running: true, Cgroup: true, Project: "shop", Service: name}
	for _, c := range change {
		c(&m)
	}
	return m
}

func stopped(m *Member)  { m.Running = false }
func paused(m *Member)   { m.Paused = true }
func noCgroup(m *Member) { m.Cgroup = false }
func after(services ...string) func(*Member) {
	return func(m *Member) { m.DependsOn = services }
}

func writer(name string, overlaps, refuses bool) Writer {
	return Writer{Member: member(name), Datasets: []fs.Dataset{{Name: "/srv/a"}}, Overlaps: overlaps, Refuses: refuses}
}

func TestMake(t *testing.T) {
	one, two := []Dataset{data("a", "db")}, []Dataset{data("a", "db"), data("b", "db")}
	pool := []Dataset{data("a", "db"), data("a", "db")}
	db := []Member{member("db")}
	cases := []struct {
		name     string
		in       Input
		freeze   string // "name=how", in order
		want     point.Consistency
		why      string // part of it
		warnings []string
		refused  string // part of why and what to do
	}{
		{name: "one dataset: nothing", in: Input{Freeze: "auto", Datasets: one, Members: db}, want: point.Crash, why: "of which a snapshot is one instant, so nothing needs to be frozen"},
		{name: "one domain of several: nothing", in: Input{Freeze: "auto", Datasets: pool, Members: db}, want: point.Crash, why: "all 2 datasets are taken at one instant"},
		{name: "one dataset of a path", in: Input{Freeze: "auto", Datasets: []Dataset{data("a")}}, want: point.Crash},
		{name: "several: frozen", in: Input{Freeze: "auto", Datasets: two, Members: db}, freeze: "db=cgroup", want: point.Frozen, why: "db stood still, so that its 2 datasets are of one instant"},
		{name: "several without members", in: Input{Freeze: "auto", Datasets: two}, refused: `set freeze = "none"`},
		{name: "several without members, asked to freeze", in: Input{Freeze: "freeze", Datasets: two}, refused: "no members that could stand still"},
		{name: "none in one domain", in: Input{Freeze: "none", Datasets: one, Members: db}, want: point.Crash},
		{name: "none in several", in: Input{Freeze: "none", Datasets: two, Members: db}, want: point.Separate, why: "not taken at one instant"},
		{name: "none in several without members", in: Input{Freeze: "none", Datasets: two}, want: point.Separate},
		{name: "freeze in one domain too", in: Input{Freeze: "freeze", Datasets: one, Members: db}, freeze: "db=cgroup", want: point.Frozen, why: `as freeze = "freeze" asks`},
		{name: "pause", in: Input{Freeze: "pause", Datasets: one, Members: db}, freeze: "db=pause", want: point.Frozen},
		{name: "no cgroup: pause", in: Input{Freeze: "auto", Datasets: two, Members: []Member{member("db", noCgroup)}}, freeze: "db=pause", want: point.Frozen},
		{name: "freeze, and nobody runs", in: Input{Freeze: "freeze", Datasets: one, Members: []Member{member("db", stopped)}}, want: point.Crash, why: "no member of the group runs"},
		{name: "several, and nobody runs", in: Input{Freeze: "auto", Datasets: two, Members: []Member{member("db", stopped)}}, want: point.Frozen, why: "no member of the group runs"},
		{name: "only those that run", in: Input{Freeze: "auto", Datasets: two, Members: []Member{member("db"), member("job", stopped), member("web", paused)}}, freeze: "db=cgroup web=cgroup", want: point.Frozen},
		{
			name: "front ends first", in: Input{Freeze: "auto", Datasets: two, Members: []Member{member("cache"), member("db"), member("web", after("db", "cache")), member("worker", after("web"))}},
			freeze: "worker=cgroup web=cgroup cache=cgroup db=cgroup", want: point.Frozen, why: "4 containers stood still",
		},
		{name: "a circle keeps its order", in: Input{Freeze: "auto", Datasets: two, Members: []Member{member("aa", after("bb")), member("bb", after("aa"))}}, freeze: "aa=cgroup bb=cgroup", want: point.Frozen},
		{name: "a writer outside", in: Input{Freeze: "auto", Datasets: two, Members: db, Writers: []Writer{writer("ftp", true, false)}}, freeze: "ftp=cgroup db=cgroup", want: point.Frozen, why: "so did ftp, not of the group"},
		{
			name: "a writer outside that must not be frozen", in: Input{Freeze: "auto", Datasets: two, Members: db, Writers: []Writer{writer("ftp", true, true)}},
			freeze: "db=cgroup", want: point.Separate, why: "ftp went on writing", warnings: []string{"container ftp is not in the group"},
		},
		{
			name: "the same in one domain", in: Input{Freeze: "freeze", Datasets: one, Members: db, Writers: []Writer{writer("ftp", true, true)}},
			freeze: "db=cgroup", want: point.Crash, warnings: []string{"container ftp is not in the group"},
		},
		{
			name: "a writer to other files", in: Input{Freeze: "auto", Datasets: two, Members: db, Writers: []Writer{writer("ftp", false, false)}},
			freeze: "db=cgroup", want: point.Frozen, warnings: []string{"writes to other files in the same dataset (/srv/a)"},
		},
		{name: "a writer in one domain is nobody's business", in: Input{Freeze: "auto", Datasets: one, Members: db, Writers: []Writer{writer("ftp", true, true)}}, want: point.Crash},
		{
			name: "a path beside containers", in: Input{Freeze: "auto", Datasets: []Dataset{data("a", "db"), data("b")}, Members: db},
			freeze: "db=cgroup", want: point.Frozen, warnings: []string{"/srv/b is in the group as a path"},
		},
		{name: "warnings are passed on", in: Input{Freeze: "auto", Datasets: one, Warnings: []string{"nested"}}, want: point.Crash, warnings: []string{"nested"}},
		{name: "crash on overrun in one domain", in: Input{Freeze: "freeze", OnOverrun: "crash", Datasets: one, Members: db}, freeze: "db=cgroup", want: point.Frozen},
		{name: "crash on overrun in several", in: Input{Freeze: "auto", OnOverrun: "crash", Datasets: two, Members: db}, refused: `set on-overrun = "fail"`},
		{name: "stop", in: Input{Freeze: "stop", Datasets: one, Members: db}, refused: "cannot stop and start members yet"},
		{name: "units", in: Input{Freeze: "auto", Datasets: one, Units: []string{"x.service"}}, refused: "cannot freeze systemd units yet (x.service)"},
		{name: "no dataset", in: Input{Freeze: "auto", Members: db}, refused: "no dataset"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			c.in.Group = "shop"
			if c.in.OnOverrun == "" {
				c.in.OnOverrun = config.OverrunFail
			}
			p, err := Make(c.in)
			var refusal *Refusal
			if errors.As(err, &refusal) != (c.refused != "") {
				t.Fatalf("got %v", err)
			}
			if c.refused != "" {
				if !strings.Contains(err.Error(), c.refused) || refusal.Do == "" {
					t.Errorf("got %v", err)
				}
				return
			}
			var freeze []string
			for _, s := range p.Freeze {
				freeze = append(freeze, s.Name+"="+s.How)
			}
			if got := strings.Join(freeze, " "); got != c.freeze || p.Consistency != c.want {
				t.Errorf("freezes %q for %s, want %q for %s", got, p.Consistency, c.freeze, c.want)
			}
			if !strings.Contains(p.Why, c.why) || p.Why == "" {
				t.Errorf("why: %q lacks %q", p.Why, c.why)
			}
			if !slices.EqualFunc(p.Warnings, c.warnings, strings.Contains) {
				t.Errorf("warnings %q, want %q", p.Warnings, c.warnings)
			}
		})
	}
}
