package plan

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"snapd/internal/advice"
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

func unit(name string, change ...func(*Member)) Member {
	return member(name, append(change, func(m *Member) { m.Kind, m.Project = "unit", "units" })...)
}

// lvs are datasets of domains of their own, with filesystems on them.
func lvs(user string, names ...string) []Dataset {
	var out []Dataset
	for _, n := range names {
		d := Dataset{Dataset: fs.Dataset{Driver: fs.LVM, Name: "vg/" + n, GUID: n, Domain: n}, Paths: []string{"/mnt/" + n}}
		if user != "" {
			d.Users = []string{user}
		}
		out = append(out, d)
	}
	return out
}

func mounted(names ...string) []fs.Filesystem {
	var out []fs.Filesystem
	for _, d := range lvs("", names...) {
		out = append(out, fs.Filesystem{Dataset: d.Dataset, Dir: d.Paths[0], Type: "ext4"})
	}
	return out
}

func always(all []fs.Filesystem) []fs.Filesystem {
	for i := range all {
		all[i].Always = true
	}
	return all
}

func refusing(all []fs.Filesystem) []fs.Filesystem {
	for i := range all {
		all[i].Refuses = "old kernel"
	}
	return all
}

func stopped(m *Member)    { m.Running = false }
func paused(m *Member)     { m.Paused = true }
func noCgroup(m *Member)   { m.Cgroup = false }
func autoRemove(m *Member) { m.AutoRemove = true }
func project(name string) func(*Member) {
	return func(m *Member) { m.Project = name }
}

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
		freeze   string // "name=how/rank", in order; rank 0 is left out
		disks    string // where the frozen filesystems are mounted
		want     point.Consistency
		why      string // part of it
		warnings []string
		refused  string // part of why and what to do
	}{
		{name: "one dataset: nothing", in: Input{Freeze: "auto", Datasets: one, Members: db}, want: point.Crash, why: "of which a snapshot is one instant, so nothing needs to be frozen"},
		{name: "one domain of several: nothing", in: Input{Freeze: "auto", Datasets: pool, Members: db}, want: point.Crash, why: "all 2 datasets are taken at one instant"},
		{name: "one dataset of a path", in: Input{Freeze: "auto", Datasets: []Dataset{data("a")}}, want: point.Crash},
		{name: "several: frozen", in: Input{Freeze: "auto", Datasets: two, Members: db}, freeze: "db=cgroup", want: point.Frozen, why: "db was frozen, so that its 2 datasets are of one instant"},
		{name: "several without members", in: Input{Freeze: "auto", Datasets: two}, refused: `set freeze = "none"`},
		{name: "several without members, asked to freeze", in: Input{Freeze: "freeze", Datasets: two}, refused: "no members that could be frozen"},
		{name: "none in one domain", in: Input{Freeze: "none", Datasets: one, Members: db}, want: point.Crash},
		{name: "none in several", in: Input{Freeze: "none", Datasets: two, Members: db}, want: point.Separate, why: "not taken at one instant"},
		{name: "none in several without members", in: Input{Freeze: "none", Datasets: two}, want: point.Separate},
		{name: "freeze in one domain too", in: Input{Freeze: "freeze", Datasets: one, Members: db}, freeze: "db=cgroup", want: point.Frozen, why: `as freeze = "freeze" asks`},
		{name: "pause", in: Input{Freeze: "pause", Datasets: one, Members: db}, freeze: "db=pause", want: point.Frozen},
		{name: "no cgroup: pause", in: Input{Freeze: "auto", Datasets: two, Members: []Member{member("db", noCgroup)}}, freeze: "db=pause", want: point.Frozen},
		{name: "freeze, and no member runs", in: Input{Freeze: "freeze", Datasets: one, Members: []Member{member("db", stopped)}}, want: point.Crash, why: "no member of the group runs"},
		{name: "several, and no member runs", in: Input{Freeze: "auto", Datasets: two, Members: []Member{member("db", stopped)}}, want: point.Frozen, why: "no member of the group runs"},
		{name: "only those that run", in: Input{Freeze: "auto", Datasets: two, Members: []Member{member("db"), member("job", stopped), member("web", paused)}}, freeze: "db=cgroup web=cgroup", want: point.Frozen},
		{
			name: "front ends first", in: Input{Freeze: "auto", Datasets: two, Members: []Member{member("cache"), member("db"), member("web", after("db", "cache")), member("worker", after("web"))}},
			freeze: "worker=cgroup web=cgroup/1 cache=cgroup/2 db=cgroup/2", want: point.Frozen, why: "4 containers were frozen",
		},
		{name: "a circle keeps its order", in: Input{Freeze: "auto", Datasets: two, Members: []Member{member("aa", after("bb")), member("bb", after("aa"))}}, freeze: "aa=cgroup bb=cgroup", want: point.Frozen},
		{name: "a writer outside", in: Input{Freeze: "auto", Datasets: two, Members: db, Writers: []Writer{writer("ftp", true, false)}}, freeze: "ftp=cgroup db=cgroup", want: point.Frozen, why: "ftp was frozen too, outside the group"},
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
		{name: "a writer in one domain does not matter", in: Input{Freeze: "auto", Datasets: one, Members: db, Writers: []Writer{writer("ftp", true, true)}}, want: point.Crash},
		{
			name: "a path beside containers", in: Input{Freeze: "auto", Datasets: []Dataset{data("a", "db"), data("b")}, Members: db},
			freeze: "db=cgroup", want: point.Frozen, warnings: []string{"/srv/b is in the group as a path"},
		},
		{name: "warnings are passed on", in: Input{Freeze: "auto", Datasets: one, Warnings: []string{"nested"}}, want: point.Crash, warnings: []string{"nested"}},
		{name: "crash on overrun in one domain", in: Input{Freeze: "freeze", OnOverrun: "crash", Datasets: one, Members: db}, freeze: "db=cgroup", want: point.Frozen},
		{name: "crash on overrun in several", in: Input{Freeze: "auto", OnOverrun: "crash", Datasets: two, Members: db}, refused: `set on-overrun = "fail"`},
		{name: "stop", in: Input{Freeze: "stop", Datasets: one, Members: db}, freeze: "db=stop", want: point.Stopped, why: `db was stopped and started again, as freeze = "stop" asks`},
		{name: "stop over several", in: Input{Freeze: "stop", Datasets: two, Members: db}, freeze: "db=stop", want: point.Stopped},
		{
			name: "stop, in ranks", in: Input{Freeze: "stop", Datasets: two, Members: []Member{member("db"), member("web", after("db")), member("cache")}},
			freeze: "web=stop cache=stop db=stop/1", want: point.Stopped,
		},
		{name: "stop only those that run", in: Input{Freeze: "stop", Datasets: one, Members: []Member{member("db"), member("job", stopped, autoRemove)}}, freeze: "db=stop", want: point.Stopped},
		{name: "stop what would vanish", in: Input{Freeze: "stop", Datasets: one, Members: []Member{member("db", autoRemove)}}, refused: "container db was started with --rm"},
		{name: "stop a unit", in: Input{Freeze: "stop", Datasets: one, Members: []Member{unit("pg.service")}}, refused: "unit pg.service is no container"},
		{
			name: "stop beside a writer outside, which is frozen", in: Input{Freeze: "stop", Datasets: two, Members: db, Writers: []Writer{writer("ftp", true, false)}},
			freeze: "ftp=cgroup db=stop", want: point.Frozen, why: "ftp was frozen too",
		},
		{
			name: "stop beside a writer outside that refuses", in: Input{Freeze: "stop", Datasets: two, Members: db, Writers: []Writer{writer("ftp", true, true)}},
			freeze: "db=stop", want: point.Separate, warnings: []string{"container ftp is not in the group"},
		},
		{name: "no member runs to be stopped", in: Input{Freeze: "stop", Datasets: one, Members: []Member{member("db", stopped)}}, want: point.Crash},
		{name: "a unit", in: Input{Freeze: "auto", Datasets: []Dataset{data("a", "pg.service"), data("b", "pg.service")}, Members: []Member{unit("pg.service")}}, freeze: "pg.service=cgroup", want: point.Frozen},
		{name: "a unit is not paused", in: Input{Freeze: "pause", Datasets: one, Members: []Member{unit("pg.service"), member("db")}}, freeze: "pg.service=cgroup db=pause", want: point.Frozen, why: "pg.service and db"},
		{
			name: "units in their order", in: Input{Freeze: "freeze", Datasets: one, Members: []Member{unit("pg.service"), unit("web.service", after("pg.service")), unit("x.service")}},
			freeze: "web.service=cgroup x.service=cgroup pg.service=cgroup/1", want: point.Frozen, why: "3 members were frozen",
		},
		{
			name: "a chain through a service that does not run", in: Input{Freeze: "auto", Datasets: two, Members: []Member{member("db"), member("app", after("db"), stopped), member("web", after("app"))}},
			freeze: "web=cgroup db=cgroup/1", want: point.Frozen,
		},
		{
			name:   "a chain through a service outside the group",
			in:     Input{Freeze: "auto", Datasets: two, Members: []Member{member("db"), member("web", after("app"))}, Others: []Member{member("app", after("db"))}},
			freeze: "web=cgroup db=cgroup/1", want: point.Frozen,
		},
		{
			name:   "another project's services of the same names do not matter",
			in:     Input{Freeze: "auto", Datasets: two, Members: []Member{member("db"), member("web", after("app"))}, Others: []Member{member("app", after("db"), project("other"))}},
			freeze: "db=cgroup web=cgroup", want: point.Frozen,
		},
		{
			name:   "members of another project keep to their own",
			in:     Input{Freeze: "auto", Datasets: two, Members: []Member{member("db"), member("db", project("blog")), member("web", after("db"), project("blog"))}},
			freeze: "db=cgroup web=cgroup db=cgroup/1", want: point.Frozen,
		},
		{
			name:   "a circle behind a front end",
			in:     Input{Freeze: "auto", Datasets: two, Members: []Member{member("aa", after("bb")), member("bb", after("aa")), member("web", after("aa"))}},
			freeze: "web=cgroup aa=cgroup/1 bb=cgroup/1", want: point.Frozen,
		},
		{name: "several volumes with filesystems: these too", in: Input{Freeze: "auto", Datasets: lvs("db", "a", "b"), Members: db, Filesystems: mounted("a", "b")}, freeze: "db=cgroup", disks: "/mnt/a /mnt/b", want: point.Frozen, why: "the 2 filesystems on them were frozen"},
		{name: "one volume: the kernel does it", in: Input{Freeze: "auto", Datasets: lvs("db", "a"), Members: db, Filesystems: mounted("a")}, want: point.Crash},
		{name: "one volume, members frozen", in: Input{Freeze: "freeze", Datasets: lvs("db", "a"), Members: db, Filesystems: mounted("a")}, freeze: "db=cgroup", want: point.Frozen},
		{name: "one zvol: always", in: Input{Freeze: "auto", Datasets: lvs("db", "a"), Members: db, Filesystems: always(mounted("a"))}, disks: "/mnt/a", want: point.Crash, why: "the filesystem at /mnt/a was frozen"},
		{name: "one zvol, freeze = none", in: Input{Freeze: "none", Datasets: lvs("db", "a"), Members: db, Filesystems: always(mounted("a"))}, disks: "/mnt/a", want: point.Crash},
		{name: "one zvol that cannot", in: Input{Freeze: "auto", Datasets: lvs("db", "a"), Members: db, Filesystems: always(refusing(mounted("a")))}, want: point.Crash, warnings: []string{"could not be frozen (old kernel): what it had not written"}},
		{name: "several with none: only zvols", in: Input{Freeze: "none", Datasets: lvs("db", "a", "b"), Members: db, Filesystems: append(always(mounted("a")), mounted("b")...)}, disks: "/mnt/a", want: point.Separate},
		{name: "several without members: one instant all the same", in: Input{Freeze: "auto", Datasets: lvs("", "a", "b"), Filesystems: mounted("a", "b")}, disks: "/mnt/a /mnt/b", want: point.Crash, why: "so that its 2 datasets are of one instant"},
		{name: "several without members, one not mounted", in: Input{Freeze: "auto", Datasets: lvs("", "a", "b"), Filesystems: mounted("a")}, refused: "no members that could be frozen"},
		{name: "several without members, one that cannot", in: Input{Freeze: "auto", Datasets: lvs("", "a", "b"), Filesystems: append(mounted("a"), refusing(mounted("b"))...)}, refused: "the filesystem at /mnt/b cannot be frozen either: old kernel"},
		{
			name: "members do for filesystems that cannot", in: Input{Freeze: "auto", Datasets: lvs("db", "a", "b"), Members: db, Filesystems: refusing(mounted("a", "b"))},
			freeze: "db=cgroup", want: point.Frozen, warnings: []string{"/mnt/a could not be frozen (old kernel): only the members", "/mnt/b could not"},
		},
		{
			name: "a path's filesystem that cannot lowers the point", in: Input{Freeze: "auto", Datasets: append(lvs("db", "a"), lvs("", "b")...), Members: db, Filesystems: append(mounted("a"), refusing(mounted("b"))...)},
			freeze: "db=cgroup", disks: "/mnt/a", want: point.Separate, why: "no member is known to write there", warnings: []string{"of an instant of its own", "is in the group as a path"},
		},
		{name: "a path's filesystem that is frozen needs no warning", in: Input{Freeze: "auto", Datasets: append(lvs("db", "a"), lvs("", "b")...), Members: db, Filesystems: mounted("a", "b")}, freeze: "db=cgroup", disks: "/mnt/a /mnt/b", want: point.Frozen},
		{
			name: "a writer that refuses waits for its filesystem", in: Input{Freeze: "auto", Datasets: lvs("db", "a", "b"), Members: db, Filesystems: mounted("a", "b"), Writers: []Writer{{Member: member("ftp"), Datasets: []fs.Dataset{lvs("", "a")[0].Dataset}, Overlaps: true, Refuses: true}}},
			freeze: "db=cgroup", disks: "/mnt/a /mnt/b", want: point.Frozen,
		},
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
				if !strings.Contains(err.Error()+"; "+advice.Of(err), c.refused) || refusal.Do == "" || advice.Of(err) != refusal.Do {
					t.Errorf("got %v (%s)", err, advice.Of(err))
				}
				if strings.Contains(err.Error(), refusal.Do) {
					t.Errorf("the text has the advice in it: %v", err)
				}
				return
			}
			var freeze []string
			for _, s := range p.Freeze {
				text := s.Name + "=" + s.How
				if s.Rank > 0 {
					text += fmt.Sprint("/", s.Rank)
				}
				freeze = append(freeze, text)
			}
			var disks []string
			for _, f := range p.Filesystems {
				disks = append(disks, f.Dir)
			}
			if got := strings.Join(disks, " "); got != c.disks {
				t.Errorf("filesystems %q, want %q", got, c.disks)
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

// TestStopThatCannotWork: refused before anything is stopped.
func TestStopThatCannotWork(t *testing.T) {
	in := func(took time.Duration, change ...func(*Member)) Input {
		return Input{
			Group: "shop", Freeze: config.FreezeStop, Datasets: []Dataset{data("a", "db")}, Members: []Member{member("db", change...)},
			MaxWindow: 5 * time.Second, StopTook: took,
		}
	}
	owned := func(m *Member) { m.Owner = "the Swarm service shop_db" }
	for _, c := range []struct {
		name     string
		in       Input
		why, do  string
		otherway config.Freeze
	}{
		{"of an orchestrator", in(0, owned), "belongs to the Swarm service shop_db, which starts another one", `set freeze to "freeze"`, config.FreezeGroup},
		{"too slow the last time", in(11500 * time.Millisecond), "took 11.5s the last time, and max-window is 5s", "set max-window well above 11.5s", config.FreezeGroup},
	} {
		_, err := Make(c.in)
		if err == nil || !strings.Contains(err.Error(), c.why) || !strings.Contains(advice.Of(err), c.do) {
			t.Errorf("%s: %v; %s", c.name, err, advice.Of(err))
		}
		c.in.Freeze = c.otherway
		if p, err := Make(c.in); err != nil || len(p.Freeze) != 1 || p.Freeze[0].How != ByCgroup {
			t.Errorf("%s, as the advice says: %+v, %v", c.name, p, err)
		}
	}
	patient := in(11500 * time.Millisecond)
	patient.MaxWindow = 15 * time.Second
	for _, ok := range []Input{in(0), in(4 * time.Second), patient, in(0, owned, stopped), in(time.Minute, stopped)} {
		if _, err := Make(ok); err != nil {
			t.Errorf("refused: %v", err)
		}
	}
}

// TestAWriterThatCannotBeFrozen lowers what the point claims.
func TestAWriterThatCannotBeFrozen(t *testing.T) {
	w := writer("odd", true, false)
	w.Fault = true
	in := Input{Freeze: config.FreezeGroup, Datasets: []Dataset{data("a", "db")}, Members: []Member{member("db")}, Writers: []Writer{w}, Warnings: []string{"odd cannot be frozen"}}
	p, err := Make(in)
	if err != nil || p.Consistency != point.Crash || len(p.Freeze) != 1 || p.Freeze[0].Name != "db" || !slices.Equal(p.Warnings, in.Warnings) || !strings.Contains(p.Why, "odd went on writing") {
		t.Errorf("got %+v, %v", p, err)
	}
}
