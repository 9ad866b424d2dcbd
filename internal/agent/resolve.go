package agent

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"snapd/internal/advice"
	"snapd/internal/freeze"
	"snapd/internal/fs"
	"snapd/internal/plan"
	"snapd/internal/point"
	"snapd/internal/proc"
	"snapd/internal/workload"
)

// resolved is a group as it is about to be taken.
type resolved struct {
	plan     plan.Plan
	input    plan.Input // what the plan was made of
	known    map[string]freeze.Member
	reach    *workload.Reach
	datasets []fs.Dataset
	items    []workload.Item
	paths    map[string][]string  // by guid of the dataset
	members  []freeze.Member      // in the order in which they are frozen
	disks    []freeze.Filesystem  // that are frozen after them
	stood    []freeze.Stood       // once the window is over
	resting  []workload.Container // members that did not run
	ended    []string             // names of those that have ended since they were listed
	warnings []string
	notes    []string // what users should know of paths, such as what is left out because it need not be covered
}

// resolve finds where everything of a group lies and plans its window.
func (a *Agent) resolve(ctx context.Context, s *scene, g workload.Group) (*resolved, error) {
	swaps, err := proc.Swaps()
	if err != nil {
		return nil, fmt.Errorf("read the swap space: %w", err)
	}
	found, err := workload.Host{Containers: s.containers, Swaps: swaps, Looks: a.Looks}.Resolve(ctx, g, a.driverList())
	if errors.Is(err, workload.ErrNoStorage) && a.LeftOut != "" {
		return nil, advice.With(fmt.Errorf("%w (%s)", err, a.LeftOut), "name all storages that groups of this host lie on there, or remove it (10-storage.conf); then: systemctl daemon-reload && systemctl stop snapd-agent.service")
	}
	if err != nil {
		return nil, err
	}
	in := plan.Input{
		Group: g.Name, Freeze: g.Freeze, OnOverrun: g.OnOverrun, Warnings: found.Warnings, Others: others(s.containers, g),
		MaxWindow: time.Duration(g.MaxWindow), StopTook: a.stopTook(g),
	}
	r := &resolved{paths: map[string][]string{}, notes: found.Notes, items: found.Items, reach: found.Reach}
	for _, p := range found.Places {
		r.datasets = append(r.datasets, p.Dataset)
		r.paths[p.Dataset.GUID] = p.Paths
		in.Datasets = append(in.Datasets, plan.Dataset{Dataset: p.Dataset, Paths: p.Paths, Users: p.Users})
	}
	if in.Filesystems, err = a.filesystems(ctx, s, r.datasets); err != nil {
		return nil, err
	}
	known := map[string]freeze.Member{}
	for _, c := range g.Members {
		if slices.Contains(found.Ended, c.ID) {
			r.ended = append(r.ended, c.Name)
			c.Running, c.Pid, c.Cgroup = false, 0, ""
		}
		in.Members = append(in.Members, planned(c))
		known[c.ID] = freezable(c)
		if !c.Running {
			r.resting = append(r.resting, c)
		}
	}
	for _, m := range a.processes(g.Name) {
		in.Members = append(in.Members, plan.Member{Kind: m.Kind, ID: m.ID, Name: m.Name, Running: true, Cgroup: true})
		known[m.ID] = m
	}
	if err := a.addUnits(ctx, g, &in, known); err != nil {
		return nil, err
	}
	for _, w := range found.Writers {
		in.Writers = append(in.Writers, plan.Writer{Member: planned(w.Container), Datasets: w.Datasets, Overlaps: w.Overlaps, Refuses: w.Refuses, Fault: w.Container.Fault != nil})
		known[w.Container.ID] = freezable(w.Container)
	}
	r.input, r.known = in, known
	if err := r.make(); err != nil {
		return nil, err
	}
	return r, nil
}

// make plans the window by what is known.
func (r *resolved) make() (err error) {
	if r.plan, err = plan.Make(r.input); err != nil {
		return err
	}
	r.members, r.disks = nil, nil
	for _, still := range r.plan.Freeze {
		m := r.known[still.ID]
		m.Pause, m.Stop, m.Rank = still.How == plan.ByPause, still.How == plan.ByStop, still.Rank
		r.members = append(r.members, m)
	}
	for _, f := range r.plan.Filesystems {
		r.disks = append(r.disks, freezableDisk(f))
	}
	r.warnings = r.plan.Warnings
	return nil
}

func (a *Agent) driverList() []fs.Driver {
	var drivers []fs.Driver
	for _, name := range slices.Sorted(maps.Keys(a.Drivers)) {
		drivers = append(drivers, a.Drivers[name])
	}
	return drivers
}

func (a *Agent) processes(group string) []freeze.Member {
	if a.Processes == nil {
		return nil
	}
	return a.Processes(group)
}

func planned(c workload.Container) plan.Member {
	return plan.Member{
		Kind: freeze.Container, ID: c.ID, Name: c.Name, Running: c.Running, Paused: c.Paused, Cgroup: c.Cgroup != "",
		AutoRemove: c.AutoRemove, Owner: c.Owner(), Project: c.Project, Service: c.Service, DependsOn: c.DependsOn,
	}
}

func freezable(c workload.Container) freeze.Member {
	return freeze.Member{Kind: freeze.Container, ID: c.ID, Name: c.Name, Cgroup: c.Cgroup, Pid: c.Pid}
}

// dataset is what a point remembers of a snapshot.
func (r *resolved) dataset(s fs.Snapshot) point.Dataset {
	return point.Dataset{
		Driver: s.Dataset.Driver, Dataset: s.Dataset.Name, Origin: s.Dataset.GUID, Domain: s.Dataset.Domain,
		Snapshot: s.Name, GUID: s.GUID, Paths: r.paths[s.Dataset.GUID],
	}
}
