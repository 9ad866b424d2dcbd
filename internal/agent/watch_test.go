package agent

import (
	"slices"
	"strings"
	"testing"

	"snapd/internal/fs"
	"snapd/internal/fs/fstest"
)

// What a pool endangers is looked after by every command, and its caller is told
// what had to go.
func TestCommandsTellWhatHadToGo(t *testing.T) {
	b := newBench(t, "", "main")
	if b.Live() {
		t.Error("there is something to be watched where nothing says so")
	}
	b.Drivers[fs.Btrfs] = struct {
		*fstest.Memory
		*fstest.Tending
	}{b.storage, &fstest.Tending{Tell: []string{"DROPPED the snapshot x"}, Alive: true}}
	var said []string
	b.Report = func(e Event) {
		if e.Kind == Warning {
			said = append(said, e.Text)
		}
	}
	for name, command := range map[string]func(){
		"snapshot": func() { b.take() },
		"ship":     func() { b.ship() },
		"status": func() {
			_, err := b.Status(t.Context())
			b.check(err)
		},
		"prune": func() {
			_, err := b.Prune(t.Context(), nil, false)
			b.check(err)
		},
	} {
		said = nil
		command()
		if !slices.Contains(said, "DROPPED the snapshot x") {
			t.Errorf("%s: said %q", name, said)
		}
	}
	if !b.Live() {
		t.Error("there is nothing to be watched")
	}
	if told, live, err := b.Watch(t.Context()); err != nil || !live || strings.Join(told, "") != "DROPPED the snapshot x" {
		t.Errorf("got %q, %v, %v", told, live, err)
	}
}
