package workload

import (
	"fmt"
	"slices"

	"snapd/internal/config"
)

// withCommands returns the members of a draft with what is to be run in each.
// The configuration names a container, or all those of a Compose service; the
// container's own name beats that of its service, and both beat its labels.
func (g *grouping) withCommands(d *draft) []Container {
	written := g.cfg.Groups[d.name].Commands
	var out []Container
	var names []string
	for _, i := range d.members {
		c := g.containers[i]
		s := written[c.Name]
		if c.Service != "" {
			s = s.Over(written[c.Service])
			names = append(names, c.Service)
		}
		c.Commands = s.Over(g.labels[i].Commands).WithDefaults()
		out, names = append(out, c), append(names, c.Name)
	}
	for _, name := range sortedKeys(written) {
		if slices.Contains(names, name) {
			continue
		}
		g.problem(Problem{
			Group: d.name, Label: "group." + d.name + ".container." + name,
			Why: fmt.Sprintf("no container or Compose service %q belongs to the group", name),
			Do:  "correct the name" + meant(name, names),
		})
	}
	return out
}

// Asks tells whether anything is run in members of the group.
func (g Group) Asks(what func(config.Commands) bool) bool {
	return slices.ContainsFunc(g.Members, func(c Container) bool { return what(c.Commands) })
}
