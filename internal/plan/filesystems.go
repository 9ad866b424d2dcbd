package plan

import (
	"fmt"
	"slices"
	"strings"

	"snapd/internal/config"
	"snapd/internal/fs"
	"snapd/internal/point"
)

// seal chooses the filesystems that stand still: those whose storage takes no
// good snapshot otherwise, always; the others where one instant over several
// domains is wanted, which their storage cannot give.
func (m *maker) seal() {
	several := m.plan.Domains > 1 && m.in.Freeze != config.FreezeNone
	for _, f := range m.in.Filesystems {
		switch {
		case !f.Always && !several:
		case f.Refuses != "":
			m.notSealed = append(m.notSealed, f)
		default:
			m.plan.Filesystems = append(m.plan.Filesystems, f)
		}
	}
	if several {
		return
	}
	for _, f := range m.notSealed {
		m.plan.Warnings = append(m.plan.Warnings, fmt.Sprintf(
			"the filesystem at %s could not be frozen (%s): what it had not written to disk yet is missing, as after a power cut", f.Dir, f.Refuses))
	}
}

// sealsAll tells whether a filesystem that stands still lies on each of the
// datasets, so that nobody at all writes there.
func (m *maker) sealsAll(datasets []fs.Dataset) bool {
	for _, d := range datasets {
		if !slices.ContainsFunc(m.plan.Filesystems, func(f fs.Filesystem) bool { return same(f.Dataset, d) }) {
			return false
		}
	}
	return len(datasets) > 0
}

func (m *maker) allSealed() bool {
	var all []fs.Dataset
	for _, d := range m.in.Datasets {
		all = append(all, d.Dataset)
	}
	return m.sealsAll(all)
}

func same(a, b fs.Dataset) bool {
	if a.GUID != "" || b.GUID != "" {
		return a.Driver == b.Driver && a.GUID == b.GUID
	}
	return a.Driver == b.Driver && a.Name == b.Name
}

// coverFilesystems says what becomes of those that should stand still with
// the members and cannot: the members do for them where nobody else writes.
func (m *maker) coverFilesystems(one bool) {
	if one {
		return // seal has said it
	}
	for _, f := range m.notSealed {
		i := slices.IndexFunc(m.in.Datasets, func(d Dataset) bool { return same(d.Dataset, f.Dataset) })
		if i >= 0 && len(m.in.Datasets[i].Users) > 0 {
			m.plan.Warnings = append(m.plan.Warnings, fmt.Sprintf(
				"the filesystem at %s could not be frozen (%s): only the members stood still, and whatever else writes there was not held", f.Dir, f.Refuses))
			continue
		}
		if m.plan.Consistency != point.Separate {
			m.lowerTo(one)
			m.plan.Why += fmt.Sprintf("; the filesystem at %s could not be frozen, and no member is known to write there", f.Dir)
		}
		m.plan.Warnings = append(m.plan.Warnings, fmt.Sprintf(
			"the filesystem at %s could not be frozen (%s), and no member is known to write there: it is of an instant of its own", f.Dir, f.Refuses))
	}
}

// sealedText and notSealedText describe them.
func (m *maker) sealedText() string {
	if len(m.plan.Filesystems) == 1 {
		return "the filesystem at " + m.plan.Filesystems[0].Dir + " stood still"
	}
	return fmt.Sprintf("the %d filesystems on them stood still", len(m.plan.Filesystems))
}

func (m *maker) notSealedText() string {
	var out []string
	for _, f := range m.notSealed {
		out = append(out, fmt.Sprintf("; the filesystem at %s cannot be frozen either: %s", f.Dir, f.Refuses))
	}
	return strings.Join(out, "")
}
