package host

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
)

// Drop-ins that order us after mounts. What is started before us is stopped
// after us: local-fs.target covers mounts but those with nofail, which a boot
// does not wait for, and which a shutdown would unmount under a window. They are
// only ordered, never required: a disk that is missing must not stop the agent.
const (
	mountsFile  = "50-mounts.conf"  // the paths of the configuration, by the generator
	membersFile = "51-members.conf" // where containers write, by Apply
	longestUnit = 255               // bytes of a unit's name
)

// after orders a unit after these mounts. It is "" for none.
func after(why string, mounts []string) string {
	if len(mounts) == 0 {
		return ""
	}
	var b strings.Builder
	fmt.Fprintf(&b, "# Written by snapd: %s.\n[Unit]\n", why)
	for _, m := range mounts {
		fmt.Fprintf(&b, "After=%s\n", m)
	}
	return b.String()
}

// mountsOnTheWay are the units of all mounts that there could be on the way to
// these paths, without the root's. Which of them exist need not be known: systemd
// ignores the others.
func mountsOnTheWay(paths []string) []string {
	var out []string
	for _, path := range paths {
		if !filepath.IsAbs(path) {
			continue
		}
		for dir := filepath.Clean(path); dir != "/"; dir = filepath.Dir(dir) {
			if unit := mountUnit(dir); len(unit) <= longestUnit && !slices.Contains(out, unit) {
				out = append(out, unit)
			}
		}
	}
	slices.Sort(out)
	return out
}

// mountUnit is the unit of what is mounted at a clean, absolute path: see
// systemd.unit(5), "String escaping for inclusion in unit names". (go-systemd's
// UnitNamePathEscape writes control characters with one digit.)
func mountUnit(path string) string {
	var b strings.Builder
	for i, c := range []byte(strings.TrimPrefix(path, "/")) {
		switch {
		case c == '/':
			b.WriteByte('-')
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == ':', c == '_', c == '.' && i > 0:
			b.WriteByte(c)
		default:
			fmt.Fprintf(&b, `\x%02x`, c)
		}
	}
	return b.String() + ".mount"
}

// orders are the drop-ins for the paths of the configuration's groups: the agent
// comes after all of them, and the run of a group after its own. A run that was
// missed, and begins with the boot, would find an empty directory otherwise.
func orders(paths map[string][]string) map[string]string {
	out := map[string]string{}
	var all []string
	for group, own := range paths {
		if !plainGroup.MatchString(group) {
			continue
		}
		all = append(all, own...)
		if text := after("the mounts that group "+group+" may lie on", mountsOnTheWay(own)); text != "" {
			out[filepath.Join(runPrefix+group+".service.d", mountsFile)] = text
		}
	}
	if text := after("the mounts that the configuration's groups may lie on", mountsOnTheWay(all)); text != "" {
		out[filepath.Join(dropInDir, mountsFile)] = text
	}
	return out
}

// members is the drop-in for the mounts that containers of groups write to.
func members(mountPoints []string) map[string]string {
	var units []string
	for _, m := range mountPoints {
		if unit := mountUnit(m); m != "/" && len(unit) <= longestUnit {
			units = append(units, unit)
		}
	}
	slices.Sort(units)
	text := after("the mounts that groups lie on", slices.Compact(units))
	if text == "" {
		return nil
	}
	return map[string]string{filepath.Join(dropInDir, membersFile): text}
}
