package workload

import (
	"fmt"
	"slices"
	"strings"

	"snapd/internal/config"
)

// fromLabels drafts the groups that labels make, of those containers that the
// configuration has not put anywhere.
func (g *grouping) fromLabels() {
	for _, project := range g.projects() {
		g.enrolProject(project)
	}
	for i, c := range g.containers {
		if c.Project == "" && !g.claimed[i] {
			g.enrolLone(i)
		}
	}
	g.checkMixed()
}

func (g *grouping) enabled(i int) bool {
	e := g.labels[i].Enable
	return e != nil && *e
}

func (g *grouping) disabled(i int) bool {
	e := g.labels[i].Enable
	return e != nil && !*e
}

func (g *grouping) enrolProject(project string) {
	var members []int
	enrolled := false
	for i, c := range g.containers {
		if c.Project == project && !g.claimed[i] {
			members = append(members, i)
			enrolled = enrolled || g.enabled(i)
		}
	}
	if !enrolled {
		for _, i := range members {
			g.reportIdle(i)
		}
		return
	}
	name, ok := g.projectGroup(project, members)
	for _, i := range members {
		if g.disabled(i) {
			continue
		}
		if own := g.labels[i].Group; own != "" {
			if own == name || g.mayJoin(i, own) {
				g.draft(own).add(i)
			}
		} else if ok {
			g.draft(name).add(i)
		}
	}
}

// projectGroup is the group of those containers of a project that name none:
// the one that all enrolling containers name, otherwise the project's name.
func (g *grouping) projectGroup(project string, members []int) (string, bool) {
	var names []string
	for _, i := range members {
		if g.enabled(i) && !slices.Contains(names, g.labels[i].Group) {
			names = append(names, g.labels[i].Group)
		}
	}
	if len(names) == 1 && names[0] != "" && g.foreign(project, names[0]) == "" {
		return names[0], true
	}
	name, err := groupName(project)
	if err != nil {
		first := members[slices.IndexFunc(members, g.enabled)]
		g.problem(Problem{
			Container: g.containers[first].Name, Label: config.LabelPrefix + "group",
			Why: fmt.Sprintf("its project's name cannot be a group's: %v", err), Do: "give the enrolled containers the label " + config.LabelPrefix + "group",
		})
		return "", false
	}
	return name, true
}

func (g *grouping) enrolLone(i int) {
	if !g.enabled(i) {
		g.reportIdle(i)
		return
	}
	if own := g.labels[i].Group; own != "" {
		if g.mayJoin(i, own) {
			g.draft(own).add(i)
		}
		return
	}
	c := g.containers[i]
	p := Problem{Container: c.Name, Label: config.LabelPrefix + "group", Do: "give the container the label " + config.LabelPrefix + "group"}
	name, err := groupName(c.Name)
	if err != nil {
		p.Why = fmt.Sprintf("its name cannot be a group's: %v", err)
		g.problem(p)
		return
	}
	if taken := g.takenBy(i, name); taken != "" {
		p.Why = fmt.Sprintf("its name would make it part of the group %s, which belongs to %s", name, taken)
		g.problem(p)
		return
	}
	g.draft(name).add(i)
}

// reportIdle says what is wrong with labels that enrol no container: the user
// who wrote them believes that the container is snapshotted.
func (g *grouping) reportIdle(i int) {
	c := g.containers[i]
	if p := g.broken[i]; p != nil {
		of := *p
		if c.Project != "" {
			of.Group, _ = groupName(c.Project)
		} else {
			of.Group, _ = groupName(c.Name)
		}
		g.problem(of)
		return
	}
	if g.disabled(i) || g.labels[i].Enable == nil && g.labels[i].Group == "" && !g.labels[i].Settings.Any() && !g.labels[i].Commands.Any() {
		return
	}
	g.problem(Problem{
		Container: c.Name, Label: config.LabelPrefix + "enable",
		Why: "it has snapd labels, but nothing enrols it, so it is in no group", Do: "add the label " + config.LabelPrefix + "enable=true, or remove the others",
	})
}

// mayJoin tells whether the label of a container may put it into a group, and
// reports if not. Labels are written by users who need not be trusted with the
// host, so they reach into no other project's group.
func (g *grouping) mayJoin(i int, name string) bool {
	c := g.containers[i]
	other := g.foreign(c.Project, name)
	if other == "" {
		return true
	}
	g.problem(Problem{
		Container: c.Name, Label: config.LabelPrefix + "group",
		Why: fmt.Sprintf("%s is the group of %s, which a label cannot join", name, other),
		Do:  "choose another name, or list the container under containers in [group." + name + "] of the configuration",
	})
	return false
}

// foreign says to which project a group name belongs, when that is another than
// the given one ("" for lone containers), otherwise "".
func (g *grouping) foreign(project, name string) string {
	if s, ok := g.cfg.Groups[name]; ok {
		if s.ComposeProject == nil || *s.ComposeProject == project {
			return ""
		}
		return "Compose project " + *s.ComposeProject
	}
	for _, other := range g.projects() {
		if n, err := groupName(other); err == nil && n == name && other != project {
			return "Compose project " + other
		}
	}
	return ""
}

// takenBy says which container or project has the group already that a lone
// container's own name would put it into.
func (g *grouping) takenBy(i int, name string) string {
	if _, ok := g.cfg.Groups[name]; !ok {
		for j, c := range g.containers[:i] { // Web and web
			if g.enabled(j) && c.Project == "" && g.labels[j].Group == "" && strings.ToLower(c.Name) == name {
				return "container " + c.Name
			}
		}
	}
	return g.foreign("", name)
}

// checkMixed finds groups that labels of several projects make together: that
// needs the configuration's word.
func (g *grouping) checkMixed() {
	for name, d := range g.drafts {
		if _, ok := g.cfg.Groups[name]; ok || len(d.members) == 0 {
			continue
		}
		first := g.containers[d.members[0]]
		for _, i := range d.members[1:] {
			if c := g.containers[i]; c.Project != first.Project {
				g.problem(Problem{
					Group: name, Container: c.Name, Label: config.LabelPrefix + "group",
					Why: fmt.Sprintf("%s and container %s are not of the same project, and labels alone cannot put them into one group", c.Name, first.Name),
					Do:  "write [group." + name + "] into the configuration to allow it, or choose another name",
				})
				break
			}
		}
	}
}

// groupName turns the name of a container or project into a group's.
func groupName(name string) (string, error) {
	name = strings.ToLower(name)
	return name, config.CheckGroupName(name)
}
