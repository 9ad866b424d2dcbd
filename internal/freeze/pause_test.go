package freeze

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// engine is a container engine that does what its fields say; nil fields do
// what a healthy one does.
type engine struct {
	mu      sync.Mutex
	paused  map[string]bool
	gone    map[string]bool
	pause   func(id string) error
	unpause func(id string) error
	stopped map[string]bool
	stop    func(id string) error
	start   func(id string) error
	health  func(id string) string
	calls   []string // stop and start, in order
}

func newEngine() *engine {
	return &engine{paused: map[string]bool{}, gone: map[string]bool{}, stopped: map[string]bool{}}
}

func (e *engine) set(id string, paused bool) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.paused[id] == paused {
		return errors.New("it is so already")
	}
	e.paused[id] = paused
	return nil
}

func (e *engine) Pause(_ context.Context, id string) error {
	if e.pause != nil {
		return e.pause(id)
	}
	return e.set(id, true)
}

func (e *engine) Unpause(_ context.Context, id string) error {
	if e.unpause != nil {
		return e.unpause(id)
	}
	return e.set(id, false)
}

func (e *engine) State(_ context.Context, id string) (running, paused bool, err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	return !e.gone[id] && !e.stopped[id], e.paused[id], nil
}

func (e *engine) Stop(_ context.Context, id string) error {
	if e.stop != nil {
		if err := e.stop(id); err != nil {
			return err
		}
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.stopped[id] = true
	e.calls = append(e.calls, "stop "+id)
	return nil
}

func (e *engine) Start(_ context.Context, id string) error {
	if e.start != nil {
		if err := e.start(id); err != nil {
			return err
		}
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.stopped[id] = false
	e.calls = append(e.calls, "start "+id)
	return nil
}

func (e *engine) Health(_ context.Context, id string) (string, error) {
	if e.health != nil {
		return e.health(id), nil
	}
	return "", nil
}

func (e *engine) pausedNow() []string {
	e.mu.Lock()
	defer e.mu.Unlock()
	var out []string
	for id, paused := range e.paused {
		if paused {
			out = append(out, id)
		}
	}
	return out
}

func boxes(names ...string) []Member {
	var out []Member
	for _, n := range names {
		out = append(out, Member{Kind: Container, ID: n, Name: n})
	}
	return out
}

func pauseWindow(t *testing.T, e *engine, deadline time.Duration, names ...string) (*Window, Options) {
	t.Helper()
	o := Options{Dir: filepath.Join(t.TempDir(), "run"), Deadline: deadline, Engine: e}
	w, err := Prepare(t.Context(), boxes(names...), o)
	if err != nil {
		t.Fatal(err)
	}
	return w, o
}

func journals(t *testing.T, o Options) int {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(o.Dir, "*"))
	if err != nil {
		t.Fatal(err)
	}
	return len(found)
}

func TestPauseThroughTheEngine(t *testing.T) {
	e := newEngine()
	e.paused["before"], e.gone["over"] = true, true
	w, o := pauseWindow(t, e, time.Second, "before", "a", "b", "over")
	if journals(t, o) != 1 {
		t.Error("no journal before the first pause")
	}
	_, err := w.Run(func() error {
		if got := e.pausedNow(); len(got) != 3 {
			t.Errorf("paused: %v", got)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if got := e.pausedNow(); len(got) != 1 || got[0] != "before" {
		t.Errorf("still paused: %v", got)
	}
	for i, want := range []How{LeftAlone, ByPause, ByPause, NotRunning} {
		if got := w.Stood()[i].How; got != want {
			t.Errorf("member %d: %s, want %s", i, got, want)
		}
	}
	if err := errors.Join(w.Close(), w.Close()); err != nil || journals(t, o) != 0 {
		t.Errorf("%v, %d journals left", err, journals(t, o))
	}
}

func TestPauseFails(t *testing.T) {
	broken := errors.New("unable to freeze")
	e := newEngine()
	e.pause = func(id string) error {
		err := e.set(id, true)
		if id == "bad" {
			err = broken // and yet it is paused, as runc does
		}
		return err
	}
	w, o := pauseWindow(t, e, time.Second, "good", "bad")
	_, err := w.Run(func() error { t.Error("take was called"); return nil })
	if !errors.Is(err, broken) || !strings.Contains(err.Error(), "container bad") {
		t.Errorf("got %v", err)
	}
	if got := e.pausedNow(); len(got) != 0 {
		t.Errorf("still paused: %v", got)
	}
	if err := w.Close(); err != nil || journals(t, o) != 0 {
		t.Errorf("%v, %d journals left", err, journals(t, o))
	}
}

// The engine pauses long after the deadline: the window is not over before
// that container runs again.
// One that has ended by itself needs no pause: it is no reason to give up.
func TestPauseOfOneThatHasEnded(t *testing.T) {
	e := newEngine()
	e.pause = func(id string) error {
		if id != "b" {
			return e.set(id, true)
		}
		e.mu.Lock()
		defer e.mu.Unlock()
		e.gone[id] = true
		return errors.New("cannot pause a stopped container")
	}
	w, o := pauseWindow(t, e, 5*time.Second, "a", "b", "c")
	if _, err := w.Run(func() error { return nil }); err != nil {
		t.Errorf("run: %v", err)
	}
	if s := w.Stood(); !s[1].Gone || s[0].Gone || s[2].Gone {
		t.Errorf("stood %+v", s)
	}
	if err := w.Close(); err != nil || len(e.pausedNow()) != 0 || journals(t, o) != 0 {
		t.Errorf("close: %v; paused %v", err, e.pausedNow())
	}
}

func TestPauseComesLate(t *testing.T) {
	e := newEngine()
	e.pause = func(id string) error {
		if id == "late" {
			time.Sleep(100 * time.Millisecond)
		}
		return e.set(id, true)
	}
	w, _ := pauseWindow(t, e, 20*time.Millisecond, "early", "late")
	_, err := w.Run(func() error { t.Error("take was called"); return nil })
	var overrun *Overrun
	if !errors.As(err, &overrun) || len(overrun.Waiting) != 1 || !strings.Contains(overrun.Waiting[0], "late") {
		t.Errorf("got %v", err)
	}
	if got := e.pausedNow(); len(got) != 0 {
		t.Errorf("still paused: %v", got)
	}
	if err := w.Close(); err != nil {
		t.Error(err)
	}
}

// Nothing helps: the error says so, the journal stays, and a later call recovers it.
func TestUnpauseFails(t *testing.T) {
	e := newEngine()
	e.unpause = func(string) error { return errors.New("engine is ill") }
	w, o := pauseWindow(t, e, time.Second, "stuck")
	if _, err := w.Run(func() error { return nil }); err == nil || !strings.Contains(err.Error(), "container stuck") {
		t.Errorf("got %v", err)
	}
	if err := w.Close(); err == nil || journals(t, o) != 1 {
		t.Errorf("closed with %v, %d journals left", err, journals(t, o))
	}
	if got, err := Recover(t.Context(), o); err == nil || len(got) != 0 || journals(t, o) != 1 {
		t.Errorf("recovered although the engine is ill: %v, %v", got, err)
	}
	e.unpause = nil
	got, err := Recover(t.Context(), o)
	if err != nil || len(got) != 1 || got[0].Outcome != Thawed || journals(t, o) != 0 || len(e.pausedNow()) != 0 {
		t.Errorf("%+v, %v, %d journals left", got, err, journals(t, o))
	}
}

// The dead process had asked the engine to unpause, and that comes through
// while Recover asks for the same.
func TestRecoverWhileTheEngineUnpauses(t *testing.T) {
	e := newEngine()
	w, o := pauseWindow(t, e, time.Second, "a")
	if err := errors.Join(w.journal.setState(stateOpen), w.journal.close(), e.set("a", true)); err != nil {
		t.Fatal(err)
	}
	e.unpause = func(id string) error {
		if err := e.set(id, false); err != nil {
			return err
		}
		return errors.New("cannot resume a running process")
	}
	got, err := Recover(t.Context(), o)
	if err != nil || len(got) != 1 || got[0].Outcome != Thawed || journals(t, o) != 0 {
		t.Errorf("%+v, %v, %d journals left", got, err, journals(t, o))
	}
}

func TestRecoverWhenTheContainerIsGone(t *testing.T) {
	e := newEngine()
	w, o := pauseWindow(t, e, time.Second, "a")
	if err := w.journal.setState(stateOpen); err != nil {
		t.Fatal(err)
	}
	if err := w.journal.close(); err != nil { // as the end of its process would
		t.Fatal(err)
	}
	e.gone["a"] = true
	got, err := Recover(t.Context(), o)
	if err != nil || len(got) != 1 || got[0].Outcome != Vanished || journals(t, o) != 0 {
		t.Errorf("%+v, %v, %d journals left", got, err, journals(t, o))
	}
}

func TestJournalIsWholeAndLockedWhenItIsSeen(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "run")
	r := journalBody{Pid: os.Getpid(), Members: []journalMember{{Kind: Container, ID: "x", Name: "a b\n", How: ByCgroup}}}
	a, err := writeJournal(dir, r)
	if err != nil {
		t.Fatal(err)
	}
	b, err := writeJournal(dir, r) // a second window of the same process
	if err != nil {
		t.Fatal(err)
	}
	if a.path == b.path {
		t.Error("two windows, one journal")
	}
	if _, err := openJournal(a.path); !errors.Is(err, errAlive) {
		t.Errorf("got %v", err)
	}
	if err := a.setState(stateOpen); err != nil {
		t.Fatal(err)
	}
	if err := a.close(); err != nil {
		t.Fatal(err)
	}
	again, err := openJournal(a.path)
	if err != nil {
		t.Fatal(err)
	}
	got, err := again.read()
	if err != nil || got.state != stateOpen || len(got.Members) != 1 || got.Members[0] != r.Members[0] {
		t.Errorf("%+v, %v", got, err)
	}
	if err := errors.Join(again.remove(), again.remove(), again.close(), b.remove(), b.close()); err != nil {
		t.Error(err)
	}
}

func TestRefusesWithoutMeans(t *testing.T) {
	o := Options{Dir: t.TempDir(), Deadline: time.Second}
	if _, err := Prepare(t.Context(), boxes("a"), o); err == nil || !strings.Contains(err.Error(), "no engine") {
		t.Errorf("neither cgroup nor engine: %v", err)
	}
	if _, err := Prepare(t.Context(), nil, Options{}); err == nil {
		t.Error("a window without a deadline")
	}
}
