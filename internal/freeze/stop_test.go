package freeze

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// stopWindow is one of members that are stopped; the number in a name's end is
// its rank.
func stopWindow(t *testing.T, e *engine, o Options, names ...string) *Window {
	t.Helper()
	o.Engine, o.Dir = e, filepath.Join(t.TempDir(), "run")
	if o.Deadline == 0 {
		o.Deadline = 10 * time.Second
	}
	all := boxes(names...)
	for i := range all {
		all[i].Stop, all[i].Rank = true, int(names[i][len(names[i])-1]-'0')
	}
	w, err := Prepare(t.Context(), all, o)
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func TestStopsByRankAndStartsInReverse(t *testing.T) {
	e := newEngine()
	e.health = func(id string) string {
		e.mu.Lock()
		defer e.mu.Unlock()
		if id == "db2" && len(e.calls) > 3 { // it takes another look until it is healthy
			e.calls = append(e.calls, "look")
			if len(e.calls) < 6 {
				return "starting"
			}
			return "healthy"
		}
		return ""
	}
	w := stopWindow(t, e, Options{}, "db2", "web0", "app1")
	if _, err := w.Run(func() error {
		e.calls = append(e.calls, "take")
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	want := []string{"stop web0", "stop app1", "stop db2", "take", "start db2", "look", "start app1", "start web0"}
	got := slices.Clone(e.calls)
	if i := slices.Index(got, "look"); i >= 0 { // any number of them
		got = slices.Concat(got[:i+1], slices.DeleteFunc(slices.Clone(got[i+1:]), func(s string) bool { return s == "look" }))
	}
	if !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	if left, _ := filepath.Glob(w.options.Dir + "/*"); len(left) > 0 {
		t.Errorf("left %v", left)
	}
}

func TestWhoEndedByItselfIsNotStarted(t *testing.T) {
	e := newEngine()
	w := stopWindow(t, e, Options{}, "job0", "db1")
	e.stopped["job0"] = true // since Prepare looked
	if _, err := w.Run(func() error { return nil }); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if want := []string{"stop db1", "start db1"}; !slices.Equal(e.calls, want) {
		t.Errorf("%q, want %q", e.calls, want)
	}
	if stood := w.Stood(); !stood[0].Gone || stood[1].Gone {
		t.Errorf("stood %+v", stood)
	}
}

func TestStartedBySomebodyElseInTheWindow(t *testing.T) {
	e := newEngine()
	w := stopWindow(t, e, Options{}, "db0")
	_, err := w.Run(func() error { return e.Start(t.Context(), "db0") })
	if !errors.Is(err, ErrDisturbed) {
		t.Errorf("got %v", err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
}

// A stop that lasts beyond the deadline is waited for, and undone; those that
// come after it are not stopped at all.
func TestDeadlineWhileStopping(t *testing.T) {
	e := newEngine()
	e.stop = func(string) error { time.Sleep(300 * time.Millisecond); return nil }
	w := stopWindow(t, e, Options{Deadline: 50 * time.Millisecond}, "web0", "db1")
	_, err := w.Run(func() error { t.Error("take was called"); return nil })
	if _, late := errors.AsType[*Overrun](err); !late {
		t.Errorf("got %v", err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if want := []string{"stop web0", "start web0"}; !slices.Equal(e.calls, want) {
		t.Errorf("%q, want %q", e.calls, want)
	}
}

// One that cannot be started is named, keeps no other down, and stays in the
// journal until a later call can start it.
func TestWhatCannotBeStartedStaysInTheJournal(t *testing.T) {
	e := newEngine()
	e.start = func(id string) error {
		if id == "db1" {
			return errors.New("port is taken")
		}
		return nil
	}
	w := stopWindow(t, e, Options{}, "web0", "db1")
	if _, err := w.Run(func() error { return nil }); err != nil {
		t.Fatalf("the snapshots are as good: %v", err)
	}
	if stood := w.Stood(); stood[0].Unwell != "" || !strings.Contains(stood[1].Unwell, "port is taken") {
		t.Errorf("stood %+v", stood)
	}
	if err := w.Close(); err == nil || !strings.Contains(err.Error(), "port is taken") {
		t.Errorf("close: %v", err)
	}
	o := Options{Dir: w.options.Dir, Engine: e}
	if _, err := Recover(t.Context(), o); err == nil {
		t.Error("recovered although it cannot be started")
	}
	left, err := Leftovers(o.Dir)
	if err != nil || len(left) != 1 || !slices.Contains(left[0].Members, "container db1") {
		t.Errorf("left %+v, %v", left, err)
	}
	e.start = nil
	got, err := Recover(t.Context(), o)
	if err != nil || len(got) != 2 || got[0].Name != "db1" || got[0].Outcome != Started || got[1].Outcome != Moving {
		t.Errorf("got %+v, %v", got, err)
	}
	if left, _ := filepath.Glob(o.Dir + "/*"); len(left) > 0 {
		t.Errorf("left %v", left)
	}
}

func TestBackingFiles(t *testing.T) {
	sys := t.TempDir()
	loop := filepath.Join(sys, "devices/virtual/block/loop7")
	dm := filepath.Join(sys, "devices/virtual/block/dm-0")
	for _, dir := range []string{loop + "/loop", loop + "/loop7p1", dm + "/slaves", sys + "/dev/block"} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(loop+"/loop/backing_file", []byte("/srv/my image\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for from, to := range map[string]string{
		dm + "/slaves/loop7p1":    loop + "/loop7p1",
		sys + "/dev/block/253:0":  dm,
		sys + "/dev/block/7:7":    loop,
		sys + "/dev/block/259:7":  loop + "/loop7p1",
		sys + "/dev/block/8:1":    sys + "/devices",
		loop + "/loop7p1/nothing": loop,
	} {
		if err := os.Symlink(to, from); err != nil {
			t.Fatal(err)
		}
	}
	for dev, want := range map[uint64]string{
		253 << 8:   "/srv/my image", // a volume on a partition of a loop device
		7<<8 | 7:   "/srv/my image",
		259<<8 | 7: "/srv/my image",
		8<<8 | 1:   "", // a disk
		9<<8 | 9:   "", // nothing there
	} {
		got, err := backingFiles(sys, dev)
		if err != nil || strings.Join(got, " ") != want {
			t.Errorf("%d:%d: %q, %v, want %q", dev>>8, dev&255, got, err, want)
		}
	}
}
