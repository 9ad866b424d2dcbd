package agent

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"snapd/internal/fs"
	"snapd/internal/fs/fstest"
)

// ailing makes the storage of a bench say what is wrong with it.
func (b *bench) ailing(health fstest.Ailing) {
	b.Drivers[fs.Btrfs] = struct {
		*fstest.Memory
		fstest.Ailing
	}{b.storage, health}
}

// TestStatusTellsOfTheStorage: what is wrong with it is told once, the gravest
// first, with the groups that lie there and what to do.
func TestStatusTellsOfTheStorage(t *testing.T) {
	b := newBench(t, "")
	b.take()
	var asked []fs.Dataset
	b.ailing(func(_ context.Context, datasets []fs.Dataset) ([]fs.Finding, error) {
		asked = datasets
		name := []string{datasets[0].Name}
		return []fs.Finding{
			{On: "disk x", Datasets: name, What: "3 errors"},
			{On: "disk y", Datasets: name, What: "is missing", Do: "bring it back", Grave: true},
			{On: "disk z", What: "is of no group"},
		}, errors.New("and one is not known")
	})
	st, err := b.Status(t.Context())
	b.check(err)
	want := "disk y: is missing (of group shop); bring it back\ndisk x: 3 errors (of group shop)\ndisk z: is of no group\nask btrfs for the health of its devices: and one is not known"
	if got := strings.Join(st.Attention, "\n"); got != want {
		t.Errorf("got %s", got)
	}
	if len(asked) != 1 || asked[0] != b.dataset {
		t.Errorf("asked for %+v", asked)
	}
	s, err := b.Survey(t.Context())
	b.check(err)
	if len(s.Ailments) != 3 || s.Ailments[0].On != "disk y" || s.Unknown == nil || s.Asked != 1 {
		t.Errorf("doctor: %+v, %v, of %d", s.Ailments, s.Unknown, s.Asked)
	}
}

// TestAStorageThatHangs keeps status for a moment, once it is overdue says so, and
// is not asked again before it has answered.
func TestAStorageThatHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := &Agent{}
		var calls atomic.Int32
		hang := make(chan struct{})
		teller := fstest.Ailing(func(context.Context, []fs.Dataset) ([]fs.Finding, error) {
			if calls.Add(1) == 2 {
				<-hang
			}
			return []fs.Finding{{On: "disk", What: "3 errors"}}, nil
		})
		a.Drivers = map[string]fs.Driver{fs.Btrfs: struct {
			*fstest.Memory
			fstest.Ailing
		}{&fstest.Memory{}, teller}}
		where := whereGroupsLie{"shop": {{Driver: fs.Btrfs, Name: "/srv"}}}
		ask := func() (int, time.Duration, error) {
			begin := time.Now()
			found, err := a.health(t.Context(), where, healthPatience)
			return len(found), time.Since(begin), err
		}
		if n, took, err := ask(); n != 1 || err != nil || took > 0 {
			t.Errorf("one that answers: %d, %v after %v", n, err, took)
		}
		if n, took, err := ask(); n != 1 || err != nil || took != healthPatience {
			t.Errorf("one that is slow: %d, %v after %v", n, err, took)
		}
		time.Sleep(healthLimit)
		if n, took, err := ask(); n != 1 || err == nil || !strings.Contains(err.Error(), "does not answer") || took != healthPatience || calls.Load() != 2 {
			t.Errorf("one that hangs: %d, %v after %v and %d calls", n, err, took, calls.Load())
		}
		close(hang)
		synctest.Wait()
		if n, _, err := ask(); n != 1 || err != nil || calls.Load() != 3 {
			t.Errorf("one that answers again: %d, %v, %d calls", n, err, calls.Load())
		}
	})
}

// TestDamagedDataStopsNoLaterPoint: a point with a file that cannot be read is never
// shipped; the newest one is tried all the same, and no other in between, each of which
// would read all that comes before the damage.
func TestDamagedDataStopsNoLaterPoint(t *testing.T) {
	for name, c := range map[string]struct {
		sound bool // the newest point
		sends int
	}{"the file was replaced": {true, 2}, "it is damaged still": {false, 2}} {
		b := newBench(t, "", "main")
		for range 4 {
			b.take()
		}
		sends := 0
		b.storage.Fault = func(call string) error {
			if call != "Send" {
				return nil
			}
			if sends++; sends == 2 && c.sound {
				return nil
			}
			return fmt.Errorf("%w: /srv/x/a file", fs.ErrUnreadable)
		}
		points, err := b.Ship(t.Context(), []string{"shop"})
		if !errors.Is(err, fs.ErrUnreadable) || sends != c.sends || (len(points) == 1) != c.sound {
			t.Errorf("%s: shipped %d points in %d streams, %v", name, len(points), sends, err)
		}
		st, err := b.Status(t.Context())
		b.check(err)
		if all := strings.Join(st.Groups[0].Attention, "\n"); !strings.Contains(all, "/srv/x/a file") {
			t.Errorf("%s: status: %s", name, all)
		}
	}
}
