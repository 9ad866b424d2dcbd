//go:build host

package workload_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"strings"
	"sync"
	"testing"
	"time"

	"snapd/internal/workload"
	"snapd/internal/workload/dockertest"
)

// output is a buffer that a session writes to while a test reads it.
type output struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.String()
}

func start(t *testing.T, e *workload.Engine, id string, c workload.Command) *workload.Session {
	t.Helper()
	s, err := e.Exec(t.Context(), id, c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func TestExecRunsACommand(t *testing.T) {
	e := connect(t)
	id := runContainer(t, dockertest.Spec{Name: "execs"})
	var out, errs output
	s := start(t, e, id, workload.Command{
		Args: []string{"sh", "-c", `while read line; do echo "$line $SNAPD_MARK"; done; echo told >&2; exit 7`}, User: "0:0", Mark: "a mark",
		Stdout: &out, Stderr: &errs,
	})
	if err := s.Started(t.Context()); err != nil {
		t.Error(err)
	}
	for range 2 {
		if _, err := s.Write([]byte("a word\n")); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "it answers", func() bool { return strings.Count(out.String(), "\n") == 2 })
	for range 2 {
		if err := s.CloseStdin(); err != nil {
			t.Error(err)
		}
	}
	exit, err := s.Wait(t.Context())
	if err != nil || exit != 7 || strings.Count(out.String(), "a word a mark/") != 2 || errs.String() != "told\n" {
		t.Errorf("status %d, %v, printed %q and %q", exit, err, &out, &errs)
	}
}

func TestExecOfWhatIsNotThere(t *testing.T) {
	e := connect(t)
	id := runContainer(t, dockertest.Spec{Name: "lacks"})
	var out output
	s := start(t, e, id, workload.Command{Args: []string{"no-such-program"}, Stdout: &out, Stderr: &out})
	if exit, err := s.Wait(t.Context()); err != nil || exit != 126 && exit != 127 {
		t.Errorf("status %d, %v, printed %s", exit, err, &out)
	}
	if err := s.Started(t.Context()); err == nil {
		t.Error("it counts as started")
	}
	if _, err := e.Exec(t.Context(), strings.Repeat("0", 64), workload.Command{Args: []string{"true"}}); err == nil {
		t.Error("no error without a container")
	}
}

// TestExecIsKilledWithWhatItStarted, also when the engine hangs and when the
// command itself has ended and left something behind.
func TestExecIsKilledWithWhatItStarted(t *testing.T) {
	e := connect(t)
	id := runContainer(t, dockertest.Spec{Name: "kills"})
	for _, script := range []string{"sleep 1000 & echo ready; sleep 1000", "sleep 1000 & echo ready"} {
		for _, hangs := range []bool{false, true} {
			var out output
			s := start(t, e, id, workload.Command{Args: []string{"sh", "-c", script}, Mark: "kills", Stdout: &out, Stderr: io.Discard})
			eventually(t, "it is ready", func() bool { return out.String() == "ready\n" })
			if marked(t, "kills") == 0 {
				t.Fatal("nothing runs, so that this test shows nothing")
			}
			if hangs {
				suspend(t)
				workload.NeverKnown(s) // it hung before it said which process that is
			}
			if err := s.Kill(); err != nil {
				t.Error(err)
			}
			eventually(t, "nothing of it runs", func() bool { return marked(t, "kills") == 0 })
			if hangs {
				resume(t)
			}
			if _, err := s.Wait(t.Context()); err != nil {
				t.Error(err)
			}
		}
	}
}

// marked counts processes with a mark, and ends none.
func marked(t *testing.T, mark string) int {
	t.Helper()
	n := 0
	if _, err := workload.EndMarked(func(m string) bool {
		if m == mark {
			n++
		}
		return false
	}); err != nil {
		t.Fatal(err)
	}
	return n
}

func TestMarkedProcessesAreEnded(t *testing.T) {
	e := connect(t)
	id := runContainer(t, dockertest.Spec{Name: "marks"})
	for _, mark := range []string{"this one", "that one"} {
		s := start(t, e, id, workload.Command{Args: []string{"sh", "-c", "sleep 1000 & sleep 1000"}, Mark: mark, Stdout: io.Discard, Stderr: io.Discard})
		if err := s.Started(t.Context()); err != nil {
			t.Fatal(err)
		}
		eventually(t, "it runs", func() bool { return marked(t, mark) >= 2 })
	}
	if ended, err := workload.EndMarked(func(m string) bool { return m == "this one" }); err != nil || len(ended) < 2 {
		t.Errorf("%v, %v", ended, err)
	}
	eventually(t, "it has ended", func() bool { return marked(t, "this one") == 0 })
	if marked(t, "that one") == 0 {
		t.Error("another one was ended too")
	}
	self, err := workload.SelfMark()
	if err != nil || workload.MarkOfDead(self) {
		t.Errorf("%q is dead, %v", self, err)
	}
	if !workload.MarkOfDead("1-0") || !workload.MarkOfDead("4194305-7") || workload.MarkOfDead("nonsense") {
		t.Error("MarkOfDead does not tell a dead process from a living one")
	}
}

// TestExecIsBoundedWhenTheEngineHangs: every call returns, and leaves nothing
// that waits.
func TestExecIsBoundedWhenTheEngineHangs(t *testing.T) {
	e, err := workload.Connect(t.Context(), docker.Host, workload.WithTimeout(time.Second))
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	id := runContainer(t, dockertest.Spec{Name: "hangs"})
	var out output
	s := start(t, e, id, workload.Command{Args: []string{"sh", "-c", "echo ready; cat"}, Stdout: &out, Stderr: io.Discard})
	eventually(t, "it is ready", func() bool { return out.String() == "ready\n" })
	suspend(t)
	defer resume(t)
	bounded := func(what string, call func() error, want error) {
		t.Helper()
		begin := time.Now()
		if err := call(); !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", what, err, want)
		}
		if took := time.Since(begin); took > 3*time.Second {
			t.Errorf("%s took %v", what, took)
		}
	}
	bounded("start", func() error {
		_, err := e.Exec(t.Context(), id, workload.Command{Args: []string{"true"}})
		return err
	}, workload.ErrHangs)
	bounded("write", func() (err error) {
		for err == nil { // until the socket is full
			_, err = s.Write(make([]byte, 1<<20))
		}
		return err
	}, workload.ErrHangs)
	bounded("close the input", s.CloseStdin, nil)
	bounded("wait", func() error {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err := s.Wait(ctx)
		return err
	}, context.DeadlineExceeded)
	bounded("kill", s.Kill, nil)
	bounded("close", s.Close, nil)
}

func suspend(t *testing.T) {
	t.Helper()
	if err := docker.Suspend(); err != nil {
		t.Fatal(err)
	}
}

func resume(t *testing.T) {
	t.Helper()
	if err := docker.Resume(); err != nil {
		t.Fatal(err)
	}
}
