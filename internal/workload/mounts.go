package workload

import (
	"fmt"
	"slices"
	"strings"

	"snapd/internal/config"
)

// mounts chooses what of the members' mounts belongs to the group: what the
// configuration names, otherwise for each container what its own label names,
// otherwise all. A name that fits nothing is a problem.
func (g *grouping) mounts(d *draft, configured []string) ([]Use, bool) {
	var out []Use
	ok := true
	fitted := map[string]bool{}
	var all []string
	for _, i := range d.members {
		c := g.containers[i]
		wanted := configured
		if wanted == nil {
			wanted = g.labels[i].Settings.Volumes
		}
		mine := map[string]bool{}
		for _, m := range c.Mounts {
			name, fits := fitting(c, m, wanted)
			if len(wanted) == 0 || fits {
				out = append(out, Use{Container: c.ID, Mount: m})
			} else {
				d.leftOut = append(d.leftOut, Use{Container: c.ID, Mount: m})
			}
			fitted[name], mine[name] = true, true
			all = append(all, mountNames(c, m)...)
		}
		if configured != nil {
			continue
		}
		for _, name := range wanted {
			if !mine[name] {
				ok = false
				g.problem(Problem{
					Group: d.name, Container: c.Name, Label: config.LabelPrefix + "volumes",
					Why: fmt.Sprintf("%q is none of its own mounts", name),
					Do:  "name a volume or the path in the container where it is mounted" + meant(name, ownNames(c)),
				})
			}
		}
	}
	for _, name := range configured {
		if !fitted[name] {
			ok = false
			g.problem(Problem{
				Group: d.name, Label: "group." + d.name + ".volumes",
				Why: fmt.Sprintf("no container of the group mounts %q", name),
				Do:  "name a volume, or the path in a container where it is mounted" + meant(name, all),
			})
		}
	}
	return out, ok
}

// fitting returns which of the wanted names means the mount.
func fitting(c Container, m Mount, wanted []string) (string, bool) {
	names := mountNames(c, m)
	for _, w := range wanted {
		if slices.Contains(names, w) || slices.Contains(names, strings.TrimRight(w, "/")) {
			return w, true
		}
	}
	return "", false
}

// mountNames are the names by which a mount can be meant: the volume's, also
// as its Compose file has it, and the path in the container.
func mountNames(c Container, m Mount) []string {
	names := []string{m.Target}
	if m.Volume != "" {
		names = append(names, m.Volume)
		if short, ok := strings.CutPrefix(m.Volume, c.Project+"_"); ok && c.Project != "" {
			names = append(names, short)
		}
	}
	return names
}

func ownNames(c Container) []string {
	var out []string
	for _, m := range c.Mounts {
		out = append(out, mountNames(c, m)...)
	}
	return out
}
