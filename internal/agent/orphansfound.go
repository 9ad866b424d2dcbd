package agent

import (
	"cmp"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"snapd/internal/advice"
	"snapd/internal/durable"
	"snapd/internal/point"
)

// orphans are what the last look found. Lost, each of them is seen for the first
// time once more, and stays for another week.
type orphans struct {
	Looked  time.Time `json:"looked"` // zero: never
	Orphans []orphan  `json:"orphans"`
}

func (a *Agent) orphansFile() string { return filepath.Join(a.State, "orphans.json") }

// orphans are those that are remembered. What cannot be read was lost.
func (a *Agent) orphans() orphans {
	var out orphans
	text, err := os.ReadFile(a.orphansFile())
	if err != nil || json.Unmarshal(text, &out) != nil {
		return orphans{}
	}
	return out
}

func (a *Agent) writeOrphans(o orphans) error {
	text, err := json.Marshal(o)
	if err != nil {
		return err
	}
	if err := durable.Write(a.orphansFile(), append(text, '\n'), 0o600); err != nil {
		return fmt.Errorf("remember the orphans: %w", err)
	}
	return nil
}

// OrphanStatus is what is known of snapshots of one dataset that belong to no
// restore point, as the last prune found them.
type OrphanStatus struct {
	Driver    string     `json:"driver"`
	Dataset   string     `json:"dataset"`
	Snapshots int        `json:"snapshots"`
	Oldest    time.Time  `json:"oldest"` // when it was taken
	Since     time.Time  `json:"since"`  // when the first of them was first seen
	After     *time.Time `json:"after"`  // when the first of them is removed; null: they are not
	Why       string     `json:"why,omitempty"`
	IDs       []point.ID `json:"ids"`
	Strange   bool       `json:"strange,omitempty"` // neither they nor the dataset are known here
}

// String is for people.
func (o OrphanStatus) String() string {
	text := fmt.Sprintf("%s of %s %s no restore point (the oldest of %s)", plural(o.Snapshots, "snapshot", "snapshots"), o.Dataset, belong(o.Snapshots), o.Oldest.Local().Format(time.DateOnly))
	if o.After != nil {
		return fmt.Sprintf("%s: snapd prune removes what stays so from %s on; snapd drop %s does it now", text, o.After.Local().Format(time.DateOnly), few(o.IDs))
	}
	return fmt.Sprintf("%s, and prune removes none of these, because %s: snapd drop %s does, if they are not wanted", text, o.Why, few(o.IDs))
}

func belong(n int) string {
	if n == 1 {
		return "belongs to"
	}
	return "belong to"
}

// Orphans are what the last prune found, for doctor.
func (a *Agent) Orphans() []OrphanStatus { return a.orphanStatus(a.points()) }

// orphanStatus sums up the remembered orphans, a line for each dataset and
// reason. One that a point has meanwhile is none any more.
func (a *Agent) orphanStatus(points []point.Point) []OrphanStatus {
	if a.OnlyRepositories {
		return nil
	}
	known := map[string]bool{}
	for _, p := range points {
		for _, d := range p.Datasets {
			known[d.GUID] = true
		}
	}
	type key struct {
		guid, why string
		strange   bool
	}
	sums := map[key]*OrphanStatus{}
	var out []*OrphanStatus
	for _, o := range a.orphans().Orphans {
		if known[o.GUID] {
			continue
		}
		k := key{o.Dataset.GUID, o.Why, o.Strange}
		if sums[k] == nil {
			sums[k] = &OrphanStatus{Driver: o.Dataset.Driver, Dataset: o.Dataset.Name, Why: o.Why, Oldest: o.Time, Since: o.First, Strange: o.Strange}
			out = append(out, sums[k])
		}
		sums[k].add(o)
	}
	all := make([]OrphanStatus, len(out))
	for i, s := range out {
		all[i] = *s
	}
	slices.SortStableFunc(all, func(a, b OrphanStatus) int {
		return cmp.Or(cmp.Compare(a.Dataset, b.Dataset), cmp.Compare(a.Why, b.Why))
	})
	return all
}

func (o *OrphanStatus) add(found orphan) {
	o.Snapshots++
	o.IDs = append(o.IDs, found.id())
	if found.Time.Before(o.Oldest) {
		o.Oldest = found.Time
	}
	if found.First.Before(o.Since) {
		o.Since = found.First
	}
	if after := found.After; !after.IsZero() && (o.After == nil || after.Before(*o.After)) {
		o.After = &after
	}
}

// orphansOf are the remembered orphans of the one point whose id begins with what
// a user wrote.
func (a *Agent) orphansOf(wanted string) ([]orphan, error) {
	found := slices.DeleteFunc(a.orphans().Orphans, func(o orphan) bool {
		return wanted == "" || !strings.HasPrefix(string(o.id()), wanted)
	})
	for _, o := range found {
		if o.id() != found[0].id() {
			return nil, advice.With(advice.Usagef("%q begins the ids of several points", wanted), "write more of the id")
		}
	}
	return found, nil
}

// forgetOrphan has status name an orphan no longer that was removed.
func (a *Agent) forgetOrphan(guid string) error {
	all := a.orphans()
	all.Orphans = slices.DeleteFunc(all.Orphans, func(o orphan) bool { return o.GUID == guid })
	return a.writeOrphans(all)
}
