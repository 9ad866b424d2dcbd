package agent

import (
	"errors"
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
