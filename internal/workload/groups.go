package workload

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"snapd/internal/advice"
	"snapd/internal/config"
)

// Groups joins configuration and labels into the groups of this host, by
// name, and says what is wrong. Groups that have a problem are left out. It
// asks no engine: containers nil means that there is none.
//
// The configuration beats labels, key by key, and a container that the
// configuration puts into a group is in no other by its labels. Otherwise
// snapd.enable=true enrols the container, and with it its Compose project
// except for those that say snapd.enable=false. A label equal to one of the
// image counts as not written.
func Groups(cfg *config.Config, containers []Container) ([]Group, []Problem) {
	g := grouping{cfg: cfg, containers: containers, drafts: map[string]*draft{}}
	g.readLabels()
	g.fromConfiguration()
	g.fromLabels()
	return g.finish()
}

// grouping is the state of one call of Groups.
type grouping struct {
	cfg        *config.Config
	containers []Container
	labels     []config.Labels // of each container
	broken     []*Problem      // of each container's labels, nil when they are fine
	claimed    []bool          // by the configuration
	drafts     map[string]*draft
	problems   []Problem
}

// draft is a group in the making.
type draft struct {
	name    string
	members []int // indexes of containers
	leftOut []Use // by mounts
}

func (g *grouping) draft(name string) *draft {
	d := g.drafts[name]
	if d == nil {
		d = &draft{name: name}
		g.drafts[name] = d
	}
	return d
}

func (d *draft) add(i int) {
	if !slices.Contains(d.members, i) {
		d.members = append(d.members, i)
	}
}

func (g *grouping) problem(p Problem) { g.problems = append(g.problems, p) }

func (g *grouping) readLabels() {
	g.labels = make([]config.Labels, len(g.containers))
	g.broken = make([]*Problem, len(g.containers))
	g.claimed = make([]bool, len(g.containers))
	for i, c := range g.containers {
		if c.ImageGone && hasLabels(c) {
			g.broken[i] = &Problem{
				Container: c.Name, Label: config.LabelPrefix + "*",
				Why: "the image it was made from is gone, so that it cannot be told which labels are the user's and which the image's",
				Do:  "pull the image again and make the container anew, or name the container in the configuration and remove the labels",
			}
			if c.Fault != nil {
				g.broken[i].Why, g.broken[i].Do = c.Fault.Error(), advice.Of(c.Fault)
			}
			continue
		}
		labels, err := config.ParseLabels(c.Labels, c.ImageLabels)
		if err != nil {
			g.broken[i] = wrongLabel(c, err)
			continue
		}
		g.labels[i] = labels
	}
}

func hasLabels(c Container) bool {
	for label := range c.Labels {
		if strings.HasPrefix(label, config.LabelPrefix) {
			return true
		}
	}
	return false
}

// wrongLabel is the problem that ParseLabels found in the labels of a container.
func wrongLabel(c Container, err error) *Problem {
	p := &Problem{Container: c.Name, Why: err.Error(), Do: "correct the label and make the container anew"}
	if wrong, ok := errors.AsType[*config.LabelError](err); ok {
		p.Label, p.Why = wrong.Label, wrong.Err.Error()
	}
	if do := advice.Of(err); do != "" {
		p.Do = do + "; then make the container anew"
	}
	return p
}

// fromConfiguration drafts the groups of the configuration.
func (g *grouping) fromConfiguration() {
	for _, name := range slices.Sorted(maps.Keys(g.cfg.Groups)) {
		s := g.cfg.Groups[name]
		d := g.draft(name)
		if s.ComposeProject != nil {
			g.claimProject(d, *s.ComposeProject)
		}
		for _, want := range s.Containers {
			g.claimContainer(d, want)
		}
	}
}

func (g *grouping) claimProject(d *draft, project string) {
	found := false
	for i, c := range g.containers {
		if c.Project != project {
			continue
		}
		found = true
		if e := g.labels[i].Enable; e != nil && !*e {
			continue
		}
		d.add(i)
		g.claimed[i] = true
	}
	if found {
		return
	}
	p := Problem{Group: d.name, Label: "group." + d.name + ".compose-project"}
	p.Why = fmt.Sprintf("there is no container of a Compose project %q", project)
	p.Do = `start the project once, or correct the name` + meant(project, g.projects()) + ` ("docker compose ls --all" lists them)`
	if g.containers == nil {
		p.Why, p.Do = fmt.Sprintf("Compose project %q cannot be looked up without a container engine", project), "start the engine"
	}
	g.problem(p)
}

func (g *grouping) claimContainer(d *draft, name string) {
	var names []string
	for i, c := range g.containers {
		if c.Name == name || c.ID == name {
			d.add(i)
			g.claimed[i] = true
			return
		}
		names = append(names, c.Name)
	}
	p := Problem{Group: d.name, Label: "group." + d.name + ".containers"}
	p.Why = fmt.Sprintf("there is no container %q", name)
	p.Do = `correct the name` + meant(name, names) + ` ("docker ps --all" lists them)`
	if g.containers == nil {
		p.Why, p.Do = fmt.Sprintf("container %q cannot be looked up without a container engine", name), "start the engine"
	}
	g.problem(p)
}

func (g *grouping) projects() []string {
	var out []string
	for _, c := range g.containers {
		if c.Project != "" && !slices.Contains(out, c.Project) {
			out = append(out, c.Project)
		}
	}
	return out
}

// meant says which of the known words was perhaps meant.
func meant(word string, known []string) string {
	if n := config.Nearest(word, known); n != "" {
		return ", such as " + n + " if that is meant"
	}
	return ""
}

// finish turns drafts into groups and leaves out those that have problems.
func (g *grouping) finish() ([]Group, []Problem) {
	var out []Group
	for _, name := range slices.Sorted(maps.Keys(g.drafts)) {
		group, ok := g.complete(g.drafts[name])
		if ok && !slices.ContainsFunc(g.problems, func(p Problem) bool { return p.Group == name }) {
			out = append(out, group)
		}
	}
	return out, g.problems
}

// complete joins the settings of a draft and chooses its mounts.
func (g *grouping) complete(d *draft) (Group, bool) {
	slices.SortFunc(d.members, func(a, b int) int { return cmp.Compare(g.containers[a].Name, g.containers[b].Name) })
	ok := true
	for _, i := range d.members {
		if p := g.broken[i]; p != nil {
			of := *p
			of.Group = d.name
			g.problem(of)
			ok = false
		}
	}
	settings, configured := g.cfg.Groups[d.name]
	if len(settings.Units) > 0 && len(settings.Paths) == 0 {
		g.problem(Problem{
			Group: d.name, Label: "group." + d.name + ".units",
			Why: "snapd cannot find out where units write to", Do: `name the folders in "paths"`,
		})
		return Group{}, false
	}
	if len(d.members) == 0 && len(settings.Paths) == 0 {
		if configured && settings.ComposeProject == nil && settings.Containers == nil && settings.Units == nil {
			g.problem(Problem{
				Group: d.name, Label: "group." + d.name, Why: "nothing belongs to this group",
				Do: "name a compose-project, containers or paths, or label a container snapd.enable=true and snapd.group=" + d.name,
			})
		}
		return Group{}, false
	}
	under, agree := g.joinLabels(d)
	group := Group{Group: g.cfg.Group(d.name, settings.Over(under))}
	group.Members = g.withCommands(d)
	mounts, excluded, found := g.mounts(d, settings)
	group.Mounts, group.Excluded, group.LeftOut = mounts, excluded, d.leftOut
	return group, ok && agree && found
}

// joinLabels joins what the labels of all members say. A value that only one
// of them has counts for the group; two that differ are a problem, unless the
// configuration has the key.
func (g *grouping) joinLabels(d *draft) (config.Settings, bool) {
	set := g.cfg.Groups[d.name]
	var out config.Settings
	ok := true
	for _, label := range config.Joined() {
		first := -1
		for _, i := range d.members {
			s := g.labels[i].Settings
			v := s.Label(label)
			switch {
			case v == "" || set.Label(label) != "":
			case first < 0:
				first = i
				out = out.Over(s.Only(label))
			case v != g.labels[first].Settings.Label(label):
				ok = false
				g.problem(Problem{
					Group: d.name, Container: g.containers[i].Name, Label: config.LabelPrefix + label,
					Why: fmt.Sprintf("says %s, and container %s of the same group says otherwise", g.containers[i].Labels[config.LabelPrefix+label], g.containers[first].Name),
					Do:  "make them agree, or set " + label + " in [group." + d.name + "] of the configuration",
				})
			}
		}
	}
	return out, ok
}
