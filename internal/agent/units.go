package agent

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"snapd/internal/advice"
	"snapd/internal/freeze"
	"snapd/internal/fs"
	"snapd/internal/plan"
	"snapd/internal/workload"
)

// Unit is a systemd unit as a member of a group.
type Unit struct {
	Name     string
	Active   bool
	Dir      string // its cgroup in the v2 tree, "" when it has none
	MainPID  int
	After    []string
	Watchdog time.Duration // it is killed when it says nothing for so long; 0 means never
}

// unitProject sets units apart from the services of Compose projects, which
// cannot have a blank in their name.
const unitProject = "systemd units"

// addUnits makes the group's units members of it. Where they write to is known
// by the group's paths alone, so all of these are theirs.
func (a *Agent) addUnits(ctx context.Context, g workload.Group, in *plan.Input, known map[string]freeze.Member) error {
	if len(g.Units) == 0 {
		return nil
	}
	if a.Units == nil {
		return advice.With(advice.Usagef("group %s names systemd units, and this host has no systemd to look them up", g.Name), "take the units out of [group.%s], or run snapd where systemd is", g.Name)
	}
	units, err := a.Units(ctx, g.Units)
	if err != nil {
		return fmt.Errorf("group %s: %w", g.Name, err)
	}
	var names []string
	for _, u := range units {
		names = append(names, u.Name)
		in.Members = append(in.Members, plan.Member{
			Kind: freeze.Unit, ID: u.Name, Name: u.Name, Running: u.Active && (u.MainPID > 0 || u.Dir != ""), Cgroup: u.Dir != "",
			Project: unitProject, Service: u.Name, DependsOn: u.After,
		})
		known[u.Name] = freeze.Member{Kind: freeze.Unit, ID: u.Name, Name: u.Name, Cgroup: u.Dir, Pid: u.MainPID}
		if u.Watchdog > 0 && u.Watchdog <= time.Duration(g.MaxWindow) {
			in.Warnings = append(in.Warnings, fmt.Sprintf(
				"systemd kills unit %s when it says nothing for %v, and a window may last %v: set max-window below that", u.Name, u.Watchdog, g.MaxWindow))
		}
	}
	for i, d := range in.Datasets {
		if len(d.Users) == 0 {
			in.Datasets[i].Users = names
		}
	}
	return nil
}

// others are containers of the members' projects that are not of the group.
func others(containers []workload.Container, g workload.Group) []plan.Member {
	var out []plan.Member
	for _, c := range containers {
		_, member := g.Member(c.ID)
		if !member && c.Project != "" && slices.ContainsFunc(g.Members, func(m workload.Container) bool { return m.Project == c.Project }) {
			out = append(out, planned(c))
		}
	}
	return out
}

// filesystems asks the drivers whose datasets are block devices what is
// mounted on them, and why that must not be frozen.
func (a *Agent) filesystems(ctx context.Context, s *scene, datasets []fs.Dataset) ([]fs.Filesystem, error) {
	byDriver := map[string][]fs.Dataset{}
	for _, d := range datasets {
		byDriver[d.Driver] = append(byDriver[d.Driver], d)
	}
	var out []fs.Filesystem
	for _, name := range slices.Sorted(maps.Keys(byDriver)) {
		driver, err := a.driver(name)
		if err != nil {
			return nil, err
		}
		lister, ok := driver.(fs.FilesystemLister)
		if !ok {
			continue
		}
		found, err := lister.Filesystems(ctx, byDriver[name])
		if err != nil {
			return nil, fmt.Errorf("find the filesystems to freeze: %w", err)
		}
		out = append(out, found...)
	}
	var asked []freeze.Filesystem
	for _, f := range out {
		asked = append(asked, freezableDisk(f))
	}
	for i, err := range freeze.Unfreezable(asked, a.windowOptions(s, 0)) {
		if err != nil && out[i].Refuses == "" {
			out[i].Refuses = err.Error()
		}
	}
	return out, nil
}

func freezableDisk(f fs.Filesystem) freeze.Filesystem {
	return freeze.Filesystem{Dir: f.Dir, Type: f.Type, Device: f.Device, Name: f.Dataset.Driver + " " + f.Dataset.Name}
}
