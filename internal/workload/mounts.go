package workload

import (
	"fmt"
	"slices"
	"strings"

	"snapd/internal/config"
)

// mounts chooses what of the members' mounts belongs to the group: what the
// configuration names, otherwise for each container what its own label names,
// otherwise all, without what is excluded in the same way. A name that fits
// nothing is a problem.
func (g *grouping) mounts(d *draft, of config.Settings) (out, excluded []Use, ok bool) {
	volumes := g.naming(d, "volumes", of.Volumes, func(s config.Settings) []string { return s.Volumes })
	exclude := g.naming(d, "exclude", of.Exclude, func(s config.Settings) []string { return s.Exclude })
	for _, i := range d.members {
		c := g.containers[i]
		for _, m := range c.Mounts {
			use := Use{Container: c.ID, Mount: m}
			switch {
			case exclude.fits(i, c, m):
				excluded = append(excluded, use)
			case volumes.none(i) || volumes.fits(i, c, m):
				out = append(out, use)
			default:
				d.leftOut = append(d.leftOut, use)
			}
		}
	}
	return out, excluded, volumes.ok && exclude.ok
}

// naming is what a key or label says of the mounts of the members.
type naming struct {
	names map[int][]string // by member
	ok    bool
}

func (n naming) none(member int) bool { return len(n.names[member]) == 0 }

func (n naming) fits(member int, c Container, m Mount) bool {
	_, fits := fitting(c, m, n.names[member])
	return fits
}

// naming reads a list of mounts: the configuration's, or else for each member
// what its own label says. Those that fit nothing are problems.
func (g *grouping) naming(d *draft, key string, configured []string, label func(config.Settings) []string) naming {
	n := naming{names: map[int][]string{}, ok: true}
	fitted := map[string]bool{}
	var all []string
	for _, i := range d.members {
		c := g.containers[i]
		wanted := configured
		if wanted == nil {
			wanted = label(g.labels[i].Settings)
		}
		n.names[i] = wanted
		mine := map[string]bool{}
		for _, m := range c.Mounts {
			name, _ := fitting(c, m, wanted)
			fitted[name], mine[name] = true, true
			all = append(all, mountNames(c, m)...)
		}
		if configured != nil {
			continue
		}
		for _, name := range wanted {
			if !mine[name] {
				n.ok = false
				g.problem(Problem{
					Group: d.name, Container: c.Name, Label: config.LabelPrefix + key,
					Why: fmt.Sprintf("%q is none of its own mounts", name),
					Do:  "name a volume or the path in the container where it is mounted" + meant(name, ownNames(c)),
				})
			}
		}
	}
	for _, name := range configured {
		if !fitted[name] {
			n.ok = false
			g.problem(Problem{
				Group: d.name, Label: "group." + d.name + "." + key,
				Why: fmt.Sprintf("no container of the group mounts %q", name),
				Do:  "name a volume, or the path in a container where it is mounted" + meant(name, all),
			})
		}
	}
	return n
}

// nameFor is how a user names the mount best: one without a name of its own is
// another one when its container is made anew, at the same path.
func (m Mount) nameFor() string {
	if m.Volume == "" || containerID.MatchString(m.Volume) {
		return m.Target
	}
	return m.Volume
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
