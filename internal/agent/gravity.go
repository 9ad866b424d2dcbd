package agent

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"snapd/internal/workload"
)

// gravestFirst sorts the warnings of a point: what the point does not have comes
// before what there is to know of it.
func gravestFirst(warnings []string) {
	slices.SortStableFunc(warnings, func(a, b string) int { return cmp.Compare(gravity(a), gravity(b)) })
}

func gravity(warning string) int {
	if strings.HasPrefix(warning, workload.NotCovered) || strings.HasPrefix(warning, workload.LeftOut) {
		return 0
	}
	return 1
}

// byGravity parts the warnings of a point, of a version that did not sort them too.
func byGravity(warnings []string) (grave, rest []string) {
	for _, w := range warnings {
		if gravity(w) == 0 {
			grave = append(grave, w)
		} else {
			rest = append(rest, w)
		}
	}
	return grave, rest
}

// whatToDoAbout is what a user does about a warning of a point, "" when it says all.
func whatToDoAbout(group, warning string) string {
	if strings.HasPrefix(warning, workload.NotCovered) && strings.HasSuffix(warning, workload.OfItsOwn) {
		return fmt.Sprintf("add what matters of it to paths in [group.%s]", group)
	}
	if container, rest, _ := strings.Cut(strings.TrimPrefix(warning, "container "), " "); strings.HasPrefix(rest, workload.EndsAgain) {
		return "find out why it ends: docker logs " + container
	}
	if where, yes := workload.SnapshotsSeen(warning); yes {
		return "mount a subvolume or a directory of that filesystem in the container in place of its top, or hide them from it: a tmpfs at " + where
	}
	return ""
}

// tellNew warns of what the last point of the group did not have too: what is as
// it was every hour hides what is not. status lists all of it.
func (t *taking) tellNew() {
	same, told := 0, ""
	for _, w := range t.point.Warnings {
		if slices.Contains(t.before, w) {
			same++
			continue
		}
		do := whatToDoAbout(t.group.Name, w)
		if do == told {
			do = "" // once is enough for lines that follow each other
		} else {
			told = do
		}
		t.Report(Event{Kind: Warning, Group: t.group.Name, Text: w, Do: do})
	}
	if same > 0 {
		t.warn(t.group.Name, "%s as before, see snapd status", plural(same, "warning", "warnings"))
	}
}
