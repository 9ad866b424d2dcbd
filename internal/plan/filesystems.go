package plan

import (
	"fmt"
	"slices"
	"strings"

	"snapd/internal/config"
	"snapd/internal/fs"
	"snapd/internal/point"
)

// chooseFilesystems chooses the filesystems to freeze. Those whose storage takes
// no good snapshot otherwise are always frozen. The others are frozen where one
// instant over several domains is wanted, which their storage cannot give.
func (m *maker) chooseFilesystems() {
	several := m.plan.Domains > 1 && m.in.Freeze != config.FreezeNone
	for _, f := range m.in.Filesystems {
		switch {
		case !f.Always && !several:
		case f.Refuses != "":
			m.unfrozen = append(m.unfrozen, f)
		default:
			m.plan.Filesystems = append(m.plan.Filesystems, f)
		}
	}
	if several {
		return
	}
	for _, f := range m.unfrozen {
		m.plan.Warnings = append(m.plan.Warnings, fmt.Sprintf(
			"the filesystem at %s could not be frozen (%s): what it had not written to disk yet is missing, as after a power cut", f.Dir, f.Refuses))
	}
}

// frozenOnAll tells whether a frozen filesystem lies on each of the datasets, so
// that no process of the host can write there.
func (m *maker) frozenOnAll(datasets []fs.Dataset) bool {
	for _, d := range datasets {
		if !slices.ContainsFunc(m.plan.Filesystems, func(f fs.Filesystem) bool { return same(f.Dataset, d) }) {
			return false
		}
	}
	return len(datasets) > 0
}

func (m *maker) allFrozen() bool {
	var all []fs.Dataset
	for _, d := range m.in.Datasets {
		all = append(all, d.Dataset)
	}
	return m.frozenOnAll(all)
}

func same(a, b fs.Dataset) bool {
	if a.GUID != "" || b.GUID != "" {
		return a.Driver == b.Driver && a.GUID == b.GUID
	}
	return a.Driver == b.Driver && a.Name == b.Name
}

// coverFilesystems says what becomes of the filesystems that should be frozen
// with the members and cannot be. Freezing the members is as good where no other
// program writes.
func (m *maker) coverFilesystems(one bool) {
	if one {
		return // chooseFilesystems has warned already
	}
	for _, f := range m.unfrozen {
		i := slices.IndexFunc(m.in.Datasets, func(d Dataset) bool { return same(d.Dataset, f.Dataset) })
		if i >= 0 && len(m.in.Datasets[i].Users) > 0 {
			m.plan.Warnings = append(m.plan.Warnings, fmt.Sprintf(
				"the filesystem at %s could not be frozen (%s): only the members were frozen, and other programs could go on writing there", f.Dir, f.Refuses))
			continue
		}
		if m.plan.Consistency != point.Separate {
			m.lowerTo(one)
			m.plan.Why += fmt.Sprintf("; the filesystem at %s could not be frozen, and no member is known to write there", f.Dir)
		}
		m.plan.Warnings = append(m.plan.Warnings, fmt.Sprintf(
			"the filesystem at %s could not be frozen (%s), and no member is known to write there: its snapshot is of an instant of its own", f.Dir, f.Refuses))
	}
}

// frozenText names the filesystems that are frozen, unfrozenText those that
// should be and cannot.
func (m *maker) frozenText() string {
	if len(m.plan.Filesystems) == 1 {
		return "the filesystem at " + m.plan.Filesystems[0].Dir + " was frozen"
	}
	return fmt.Sprintf("the %d filesystems on them were frozen", len(m.plan.Filesystems))
}

func (m *maker) unfrozenText() string {
	var out []string
	for _, f := range m.unfrozen {
		out = append(out, fmt.Sprintf("; the filesystem at %s cannot be frozen either: %s", f.Dir, f.Refuses))
	}
	return strings.Join(out, "")
}
