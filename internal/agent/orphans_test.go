package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"snapd/internal/fs"
	"snapd/internal/fs/fstest"
	"snapd/internal/point"
	"snapd/internal/ship"
)

// owning is the driver in memory that lists what is ours.
type owning struct {
	*fstest.Memory
	*fstest.Owning
}

// newOwning is a bench whose group ships to main, with one point there, one that
// is here alone, and then the state directory lost and another point taken and
// shipped: of the first two no record speaks any more.
func newOwning(t *testing.T, group string, repositories ...string) (b *bench, shipped, orphan point.Point) {
	t.Helper()
	b = newBench(t, group, repositories...)
	b.Machine = "this host"
	b.Drivers[fs.Btrfs] = owning{b.storage, fstest.NewOwning(b.storage)}
	shipped = b.take()
	if len(repositories) > 0 {
		b.ship()
	}
	orphan = b.take()
	b.loseState()
	return b, shipped, orphan
}

// loseState is what a disk that breaks does to the state directory.
func (b *bench) loseState() {
	b.t.Helper()
	b.check(os.RemoveAll(b.path("state")))
	again, err := New(b.Options)
	b.check(err)
	b.Agent = again
}

func (b *bench) prune(groups ...string) Pruned {
	b.t.Helper()
	pruned, err := b.Prune(b.t.Context(), groups, false)
	b.check(err)
	return pruned
}

// has tells whether the snapshot of a point is here.
func (b *bench) has(p point.Point) bool {
	for _, s := range b.storage.All() {
		if s.GUID == p.Datasets[0].GUID {
			return true
		}
	}
	return false
}

func said(list []Verdict, id point.ID, words string) bool {
	for _, v := range list {
		if v.ID == id && strings.Contains(v.Reason, words) {
			return true
		}
	}
	return false
}

func (b *bench) attention() string {
	b.t.Helper()
	st, err := b.Status(b.t.Context())
	b.check(err)
	return strings.Join(st.Attention, "\n")
}

// TestOrphans: what no record names is named by status and removed a week after it
// was first seen, never before; what a repository names is a base as before.
func TestOrphans(t *testing.T) {
	b, shipped, orphan := newOwning(t, "keep-local = \"1h\"\nkeep = \"50 last\"", "main")
	b.take()
	if p := b.ship(); len(p) != 1 || p[0].Shipped[0].Base == nil {
		t.Fatalf("after the state was lost: %+v", p)
	}
	b.now = b.now.Add(2 * time.Hour)
	if pruned := b.prune(); !b.has(orphan) || !said(pruned.Keep, orphan.ID, "belongs to no restore point: removed after ") {
		t.Errorf("at first sight: %+v", pruned)
	}
	want := "1 snapshot of " + b.dataset.Name + " belongs to no restore point (the oldest of "
	if got := b.attention(); !strings.Contains(got, want) || !strings.Contains(got, "snapd prune removes what stays so from "+b.now.Add(orphanAge).Local().Format(time.DateOnly)) {
		t.Errorf("status: %s", got)
	}
	b.now = b.now.Add(orphanAge - time.Hour)
	if b.prune(); !b.has(orphan) {
		t.Error("it was removed after less than a week")
	}
	b.now = b.now.Add(2 * time.Hour)
	dry, err := b.PruneAs(t.Context(), PruneOptions{DryRun: true})
	b.check(err)
	if !b.has(orphan) || !said(dry.Drop, orphan.ID, "belongs to no restore point, and was seen first on ") {
		t.Errorf("dry run: %+v", dry)
	}
	if pruned := b.prune(); b.has(orphan) || !said(pruned.Drop, orphan.ID, "belongs to no restore point") {
		t.Errorf("after a week: %+v", pruned)
	}
	if !b.has(shipped) {
		t.Error("what the repository names, and increments build on, was removed")
	}
	if got := b.attention(); strings.Contains(got, "no restore point") {
		t.Errorf("status: %s", got)
	}
}

// TestOrphansThatStay: whatever is not known keeps an orphan, however old it is.
func TestOrphansThatStay(t *testing.T) {
	for name, c := range map[string]struct {
		spoil  func(b *bench)
		why    string // of status, "" when it has none
		local  bool   // the group has no repository
		second bool   // and one more
	}{
		"another host made it":         {spoil: func(b *bench) { b.Machine = "another host" }, why: orphanForeign},
		"a storage does not list":      {spoil: func(b *bench) { b.storage.Fault = failsIn("Ours") }},
		"a repository does not answer": {spoil: func(b *bench) { b.down["main"] = true }},
		"another repository is silent": {second: true, spoil: func(b *bench) { b.down["second"] = true }},
		"the record cannot be read": {spoil: func(b *bench) {
			b.check(os.WriteFile(b.path("state/points/01jd8k2m5x7qf3za.json"), []byte("{"), 0o600))
		}},
		"nothing newer was shipped": {spoil: func(b *bench) {
			b.check(os.RemoveAll(b.path("state/points")))
			b.check(os.MkdirAll(b.path("state/points"), 0o700))
			b.down["main"], b.down["second"] = false, false
		}, why: orphanUnknown},
		"the group ships to nothing": {local: true, why: orphanHere},
		"until now it was said to stay": {spoil: func(b *bench) {
			all := b.orphans()
			for i := range all.Orphans {
				all.Orphans[i].After, all.Orphans[i].Why = time.Time{}, orphanUnshipped
			}
			b.check(b.writeOrphans(all))
		}},
		"the memory of orphans was lost": {spoil: func(b *bench) { b.check(os.Remove(b.path("state/orphans.json"))) }},
		"a ship of the dataset is unfinished": {spoil: func(b *bench) {
			id := point.NewID(b.now)
			text, err := json.Marshal(ship.RecordHead{Format: 1, Type: "ship-record", Repository: "r", Stream: id, Driver: fs.Btrfs, Origin: b.dataset.GUID, GUID: "g"})
			b.check(err)
			b.check(os.WriteFile(b.path("state/ships/"+string(id)+".jsonl"), append(text, '\n'), 0o600))
			if active, err := b.records.Active(); err != nil || len(active) != 1 {
				b.t.Fatalf("%+v, %v", active, err)
			}
		}},
		"it was first seen by a wrong clock": {spoil: func(b *bench) {
			all := b.orphans()
			for i := range all.Orphans {
				all.Orphans[i].First = b.now.AddDate(-20, 0, 0)
			}
			b.check(b.writeOrphans(all))
		}},
	} {
		t.Run(name, func(t *testing.T) {
			repositories := []string{"main"}
			if c.local {
				repositories = nil
			}
			if c.second {
				repositories = append(repositories, "second")
			}
			b, _, orphan := newOwning(t, "keep-local = \"1h\"\nkeep = \"50 last\"", repositories...)
			b.take()
			if !c.local {
				b.ship()
			}
			b.now = b.now.Add(2 * time.Hour)
			b.prune()
			b.now = b.now.Add(orphanAge + time.Hour)
			if c.spoil != nil {
				c.spoil(b)
			}
			pruned, err := b.Prune(t.Context(), nil, false)
			t.Logf("%v", err)
			if !b.has(orphan) || said(pruned.Drop, orphan.ID, "") {
				t.Errorf("it was removed: %+v", pruned.Drop)
			}
			if got := b.attention(); c.why != "" && (!strings.Contains(got, "prune removes none of these, because "+c.why+": snapd drop ") || !strings.Contains(got, string(orphan.ID))) {
				t.Errorf("status: %s", got)
			}
		})
	}
}

func failsIn(call string) func(string) error {
	return func(c string) error {
		if c == call {
			return errors.New("an input/output error")
		}
		return nil
	}
}

// TestTheLastOfADatasetStays: there may be nothing else of it.
func TestTheLastOfADatasetStays(t *testing.T) {
	b, _, orphan := newOwning(t, "keep-local = \"1h\"\nkeep = \"50 last\"", "main")
	b.now = b.now.Add(2 * time.Hour)
	for range 3 {
		b.prune()
		b.now = b.now.Add(orphanAge + time.Hour)
	}
	if !b.has(orphan) {
		t.Error("it was removed")
	}
	if got := b.attention(); !strings.Contains(got, orphanNewest) {
		t.Errorf("status: %s", got)
	}
	// A user who has read that decides.
	dropped, err := b.Drop(t.Context(), DropOptions{Points: []string{string(orphan.ID)}, DryRun: true})
	b.check(err)
	if !b.has(orphan) || !said(dropped.Drop, orphan.ID, "") {
		t.Errorf("dry run: %+v", dropped)
	}
	_, err = b.Drop(t.Context(), DropOptions{Points: []string{string(orphan.ID)}})
	b.check(err)
	if b.has(orphan) || strings.Contains(b.attention(), orphanNewest) {
		t.Error("it was dropped and is still there")
	}
}

// TestOrphansAreLookedForSeldom: runs of single groups do not list every storage
// each time.
func TestOrphansAreLookedForSeldom(t *testing.T) {
	b, _, _ := newOwning(t, "", "main")
	b.take()
	asked := 0
	b.storage.Fault = func(call string) error {
		if call == "Ours" {
			asked++
		}
		return nil
	}
	for range 5 {
		b.prune("shop")
		b.now = b.now.Add(time.Hour)
	}
	if asked != 1 {
		t.Errorf("five runs in five hours looked %d times", asked)
	}
	b.now = b.now.Add(day)
	if b.prune("shop"); asked != 2 {
		t.Errorf("a day later: %d", asked)
	}
	if b.prune(); asked != 3 {
		t.Errorf("a prune of all groups: %d", asked)
	}
}

// TestAStorageThatDoesNotSayWhatWasInterrupted: status waits a second for it, once.
func TestAStorageThatDoesNotSayWhatWasInterrupted(t *testing.T) {
	b := newBench(t, "")
	hangs := make(chan struct{})
	asked := make(chan bool, 9)
	b.Drivers[fs.Btrfs] = struct {
		*fstest.Memory
		fs.InterruptedLister
	}{b.storage, interruptedFunc(func() { asked <- true; <-hangs })}
	for range 2 {
		if got := b.attention(); !strings.Contains(got, "btrfs does not answer which restores were interrupted") {
			t.Errorf("status: %q", got)
		}
	}
	if len(asked) != 1 {
		t.Errorf("it was asked %d times and has not answered once", len(asked))
	}
	close(hangs)
	for deadline := time.Now().Add(10 * time.Second); strings.Contains(b.attention(), "does not answer"); {
		if time.Now().After(deadline) {
			t.Fatal("it answers, and is not asked")
		}
	}
}

// TestStatusesThatComeTogetherShareTheAnswer: that another status asks already does
// not mean that the storage is silent.
func TestStatusesThatComeTogetherShareTheAnswer(t *testing.T) {
	b := newBench(t, "")
	asked, answer := make(chan bool, 9), make(chan struct{})
	b.Drivers[fs.Btrfs] = struct {
		*fstest.Memory
		fs.InterruptedLister
	}{b.storage, interruptedFunc(func() { asked <- true; <-answer })}
	said := make(chan string, 2)
	look := func() {
		st, err := b.Status(t.Context())
		said <- strings.Join(st.Attention, "\n") + fmt.Sprint(err)
	}
	go look()
	<-asked
	go look()
	time.AfterFunc(interruptedPatience/5, func() { close(answer) })
	for range 2 {
		if got := <-said; strings.Contains(got, "does not answer") {
			t.Errorf("it answers at once: %q", got)
		}
	}
	if len(asked) > 0 {
		t.Errorf("it was asked %d times more", len(asked))
	}
}

type interruptedFunc func()

func (f interruptedFunc) Interrupted(context.Context) ([]string, error) { f(); return nil, nil }
