package agent

import (
	"errors"
	"os"
	"syscall"
	"testing"

	"snapd/internal/retain"
	"snapd/internal/ship"
)

// What another process of this host shipped after the look is not gone from the
// repository: it is newer than the look.
func TestWhatIsNewerThanTheLookIsNotGone(t *testing.T) {
	b := newBench(t, "", "main")
	b.take()
	b.ship()
	repo, view, cache, err := b.openView(t.Context(), "main", ship.Known)
	b.check(err)
	b.take()
	p := b.ship()[0]
	_, err = b.reconcile(t.Context(), b.Config.Repositories["main"], repo, view)
	b.check(err)
	b.check(cache.Close())
	if q, err := b.record.Get(p.ID); err != nil || !q.InRepository("main") {
		t.Errorf("the record says that it is not there: %+v, %v", q, err)
	}
	if _, kept := view.Point(p.ID); !kept {
		t.Error("the look did not catch up")
	}
}

func TestPruneOfAGroupThatNothingKnows(t *testing.T) {
	b := newBench(t, "", "main")
	b.take()
	b.ship()
	if _, err := b.PruneAs(t.Context(), PruneOptions{Former: "shpo", Keep: retain.Policy{Last: 1}}); !errors.Is(err, ErrNotThere) {
		t.Errorf("a mistyped group: %v", err)
	}
}

func TestUnpinSaysOnlyWhatWasPinned(t *testing.T) {
	b := newBench(t, "", "main")
	p := b.take()
	b.ship()
	if got, err := b.Unpin(t.Context(), []string{string(p.ID)}); err != nil || len(got.Unpinned) != 0 {
		t.Errorf("it was not pinned: %+v, %v", got, err)
	}
}

// What lies at the next number and is no object of ours, and is not even one
// that can be read, does not end all ships.
func TestJunkAtTheNextNumberStopsNoShip(t *testing.T) {
	for name, junk := range map[string]func(file string) error{
		"too long": func(file string) error {
			return errors.Join(os.WriteFile(file, nil, 0o600), os.Truncate(file, 1<<40))
		},
		"a link": func(file string) error { return os.Symlink("/dev/zero", file) },
		"a pipe": func(file string) error { return syscall.Mkfifo(file, 0o600) },
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t, "", "main")
			b.take()
			b.ship()
			b.check(junk(b.path("main/meta/points/0000000002")))
			b.take()
			if p := b.ship(); len(p) != 1 || p[0].Numbers["main"] != 3 {
				t.Errorf("shipped %+v", p)
			}
			if got := b.view("main").Problems; len(got) != 1 {
				t.Errorf("it has no name: %+v", got)
			}
		})
	}
}
