package plan

import (
	"strings"
	"testing"

	"snapd/internal/config"
	"snapd/internal/fs"
	"snapd/internal/point"
)

// A process of the host that can write to the group's files lowers what a point
// is called, and is named; where nothing is promised or the filesystem is frozen
// it does not matter.
func TestProcessesOfTheHost(t *testing.T) {
	one, two := []Dataset{data("a", "db")}, []Dataset{data("a", "db"), data("b", "db")}
	process := func(d Dataset) []Process {
		return []Process{{Name: "process 4 (sh)", Datasets: []fs.Dataset{d.Dataset}}}
	}
	volumes := lvs("db", "x", "y")
	for _, c := range []struct {
		name string
		in   Input
		want point.Consistency
		says bool
	}{
		{"several domains", Input{Datasets: two, Processes: process(two[0])}, point.Separate, true},
		{"several domains, none", Input{Datasets: two}, point.Frozen, false},
		{"stopped", Input{Datasets: two, Freeze: config.FreezeStop, Processes: process(two[1])}, point.Separate, true},
		{"one domain, frozen", Input{Datasets: one, Freeze: config.FreezeGroup, Processes: process(one[0])}, point.Crash, true},
		{"one domain", Input{Datasets: one, Processes: process(one[0])}, point.Crash, false},
		{"a frozen filesystem", Input{Datasets: volumes, Filesystems: mounted("x", "y"), Processes: process(volumes[0])}, point.Frozen, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.in.Members = []Member{member("db")}
			if c.in.Freeze == "" {
				c.in.Freeze = config.FreezeAuto
			}
			p, err := Make(c.in)
			if err != nil {
				t.Fatal(err)
			}
			if said := strings.Contains(p.Why, "process 4 (sh)") && strings.Contains(strings.Join(p.Warnings, " "), "process 4 (sh)"); p.Consistency != c.want || said != c.says {
				t.Errorf("got %s, %q, %q", p.Consistency, p.Why, p.Warnings)
			}
		})
	}
}
