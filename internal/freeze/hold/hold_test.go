package hold

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"snapd/internal/advice"
)

func command() Lock {
	return Lock{Target: Target{ID: "1", Name: "db"}, By: "command", Args: []string{"lock"}}
}

func builtIn() Lock { return Lock{Target: Target{ID: "2", Name: "maria"}, By: MariaDB} }

func options(r Runner) Options { return Options{Runner: r, Timeout: 10 * time.Second} }

func TestALockIsHeldUntilItIsReleased(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &runner{t: t, programs: []program{client("", ""), cat("locked by me", 0)}}
		var steps []string
		o := options(r)
		var mu sync.Mutex // several locks are asked for at once
		o.Fault = func(step string) {
			mu.Lock()
			defer mu.Unlock()
			if len(steps) == 0 || steps[len(steps)-1] != step {
				steps = append(steps, step)
			}
		}
		h, err := Acquire(t.Context(), []Lock{builtIn(), command()}, o)
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(3 * time.Second)
		if err := h.Release(t.Context()); err != nil {
			t.Error(err)
		}
		if err := h.Release(t.Context()); err != nil {
			t.Errorf("the second time: %v", err)
		}
		if got := h.Held(); got != 3*time.Second {
			t.Errorf("held for %v", got)
		}
		all := h.All()
		if all[1].Said != "locked by me" || all[0].Tries != 1 || all[0].Held != 3*time.Second {
			t.Errorf("%+v", all)
		}
		if got, want := strings.Join(steps, " "), strings.Join(Steps(), " "); got != want {
			t.Errorf("steps: %s, want %s", got, want)
		}
	})
}

func TestWithoutLocksNothingHappens(t *testing.T) {
	h, err := Acquire(t.Context(), nil, Options{Timeout: time.Second, Fault: func(s string) { t.Error(s) }})
	if err != nil || h.Release(t.Context()) != nil || h.Held() != 0 || h.Took() != 0 || len(h.All()) != 0 {
		t.Errorf("%v %v %v", err, h.Held(), h.Took())
	}
}

func TestLocksThatAreNotTaken(t *testing.T) {
	silent := func(in io.Reader, _, _ io.Writer, _ <-chan struct{}) int {
		_, _ = io.Copy(io.Discard, in)
		return 0
	}
	busy := client("BLOCK_COMMIT", "ERROR 1205 (HY000) at line 2: Lock wait timeout exceeded; try restarting transaction")
	for _, c := range []struct {
		name     string
		lock     Lock
		programs []program
		want     []string
		took     time.Duration // about
	}{
		{"a command that fails", command(), []program{fails("no such database")}, []string{"container db (command)", "status 1", "no such database", "docker exec"}, 0},
		{"a command that says nothing", command(), []program{silent}, []string{"within 10s (hold-timeout)", "print one line"}, 10 * time.Second},
		{"words of the engine", command(), []program{func(_ io.Reader, out, _ io.Writer, _ <-chan struct{}) int {
			_, _ = io.WriteString(out, "OCI runtime exec failed: no such file\n")
			return 126
		}}, []string{"status 126", "OCI runtime exec failed"}, 0},
		{"an engine that hangs", command(), []program{nil}, []string{"the engine does not answer"}, 0},
		{"a wrong password", builtIn(), []program{fails("ERROR 1045 (28000): Access denied for user 'root'@'localhost'")}, []string{"Access denied", "MARIADB_ROOT_PASSWORD"}, 0},
		{"not MariaDB", builtIn(), []program{client("BACKUP", "ERROR 1064 (42000) at line 1: You have an error in your SQL syntax")}, []string{"1064", "docs/QUIESCE.md"}, 0},
		{"a lock that is never free", builtIn(), []program{busy}, []string{"within 10s (hold-timeout), tries: 6", "1205", "PROCESSLIST"}, 8 * time.Second},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				begin := time.Now()
				r := &runner{t: t, programs: c.programs, never: c.name == "words of the engine"}
				_, err := Acquire(t.Context(), []Lock{c.lock}, options(r))
				if !errors.Is(err, ErrNotTaken) {
					t.Fatalf("got %v", err)
				}
				for _, w := range c.want {
					if !strings.Contains(err.Error()+"; "+advice.Of(err), w) {
						t.Errorf("%v (%s)\ndoes not say %q", err, advice.Of(err), w)
					}
				}
				if took := time.Since(begin).Round(100 * time.Millisecond); took < c.took || took > c.took+2*time.Second {
					t.Errorf("took %v, want about %v", took, c.took)
				}
			})
		})
	}
}

func TestABusyLockIsTriedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		busy := client("BLOCK_COMMIT", "ERROR 1205 (HY000) at line 2: Lock wait timeout exceeded")
		starting := fails("ERROR 2002 (HY000): Can't connect to local server through socket")
		r := &runner{t: t, programs: []program{starting, busy, busy, client("", "")}}
		h, err := Acquire(t.Context(), []Lock{builtIn()}, options(r))
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		if err := h.Release(t.Context()); err != nil {
			t.Error(err)
		}
		// The tries that failed are not part of it.
		if one := h.All()[0]; one.Tries != 3 || h.Held() != time.Second || h.Took() != 6*time.Second {
			t.Errorf("%+v, held %v, took %v", one, h.Held(), h.Took())
		}
	})
}

func TestOneFailureReleasesTheOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &runner{t: t, programs: []program{cat("locked", 0), fails("no")}}
		if _, err := Acquire(t.Context(), []Lock{command(), command()}, options(r)); err == nil {
			t.Fatal("no error")
		}
		for _, s := range r.started {
			select {
			case <-s.ended:
			default:
				t.Error("a lock is still held")
			}
		}
	})
}

func TestALockThatIsLost(t *testing.T) {
	for _, c := range []struct {
		name    string
		lock    Lock
		program program
		wait    time.Duration
		want    string
	}{
		{"its own deadline", command(), cat("locked", 0), 11 * time.Second, "held for 10s, and hold-timeout allows no more"},
		{"its own deadline, and it is deaf", command(), deaf, 13 * time.Second, "held for 10s, and hold-timeout allows no more"},
		{"it ends by itself", command(), func(_ io.Reader, out, _ io.Writer, _ <-chan struct{}) int {
			_, _ = io.WriteString(out, "locked\n")
			time.Sleep(time.Second)
			return 0
		}, 2 * time.Second, "ended with status 0"},
		{"it does not end with its input", command(), deaf, 0, "was killed"},
		{"it fails in the end", command(), cat("locked", 3), 0, "status 3"},
		{"the server has closed the session", builtIn(), client("END", "ERROR 2006 (HY000) at line 5: MySQL server has gone away"), 0, "gone away"},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := &runner{t: t, programs: []program{c.program}}
				h, err := Acquire(t.Context(), []Lock{c.lock}, options(r))
				if err != nil {
					t.Fatal(err)
				}
				time.Sleep(c.wait)
				if c.wait > 10*time.Second {
					select {
					case <-r.started[0].ended:
					default:
						t.Error("it was not released at its deadline")
					}
				}
				err = h.Release(t.Context())
				var lost *Lost
				if !errors.As(err, &lost) || !strings.Contains(err.Error(), c.want) {
					t.Errorf("got %v, want %q", err, c.want)
				}
			})
		})
	}
}

func TestHooks(t *testing.T) {
	ends := func(in io.Reader, out, errs io.Writer, _ <-chan struct{}) int {
		text, _ := io.ReadAll(in)
		_, _ = io.WriteString(out, "input: "+string(text)+".\n")
		_, _ = io.WriteString(errs, "\xff told\n")
		return 0
	}
	synctest.Test(t, func(t *testing.T) {
		hook := Hook{Target: Target{ID: "1", Name: "db"}, Args: []string{"x"}}
		o := Run(t.Context(), &runner{t: t, programs: []program{ends}}, hook, time.Minute)
		if o.Failure() != nil || o.Output != "input: .\n� told\n" {
			t.Errorf("%+v", o)
		}
		o = Run(t.Context(), &runner{t: t, programs: []program{fails("why")}}, hook, time.Minute)
		if err := o.Failure(); o.Exit != 1 || err == nil || !strings.Contains(err.Error(), "why") {
			t.Errorf("%+v %v", o, err)
		}
		o = Run(t.Context(), &runner{t: t, programs: []program{deaf}}, hook, time.Minute)
		if !errors.Is(o.Failure(), ErrTooLong) || o.Took != time.Minute || o.Exit != -1 || o.Output != "locked\n" {
			t.Errorf("%+v", o)
		}
		o = Run(t.Context(), &runner{t: t, programs: []program{nil}}, hook, time.Minute)
		if err := o.Failure(); err == nil || o.Exit != -1 {
			t.Errorf("%+v %v", o, err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Second, cancel)
		o = Run(ctx, &runner{t: t, programs: []program{deaf}}, hook, time.Minute)
		if !errors.Is(o.Failure(), context.Canceled) || o.Took != time.Second {
			t.Errorf("%+v", o)
		}
		many := func(_ io.Reader, out, _ io.Writer, _ <-chan struct{}) int {
			for range 1000 {
				_, _ = io.WriteString(out, "0123456789")
			}
			_, _ = io.WriteString(out, "end")
			return 0
		}
		o = Run(t.Context(), &runner{t: t, programs: []program{many}}, hook, time.Minute)
		if len(o.Output) != mostOutput+len("…") || !strings.HasSuffix(o.Output, "end") {
			t.Errorf("%d bytes of output are kept", len(o.Output))
		}
	})
}

func TestPromises(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "hooks")
	if all, err := Outstanding(dir); err != nil || len(all) != 0 {
		t.Errorf("%v %v", all, err)
	}
	made := func(name string) *Promise {
		p := &Promise{Group: "shop", Made: time.Now(), ID: "id", Name: name, Args: []string{"rm", "my file"}, Timeout: time.Second}
		if err := p.Make(dir); err != nil {
			t.Fatal(err)
		}
		return p
	}
	a, b, c := made("a"), made("b"), made("c")
	if all, err := Outstanding(dir); err != nil || len(all) != 0 {
		t.Errorf("their maker lives: %v %v", all, err)
	}
	if err := b.Kept(); err != nil {
		t.Fatal(err)
	}
	for _, p := range []*Promise{a, c} { // as the death of this process does
		if err := p.Later(); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, promisePrefix+"0"), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	all, err := Outstanding(dir)
	if err == nil || !strings.Contains(err.Error(), promisePrefix+"0") {
		t.Errorf("a damaged one: %v", err)
	}
	if len(all) != 2 || all[0].Name != "c" || all[1].Name != "a" || all[0].Hook().Args[1] != "my file" {
		t.Fatalf("%+v", all)
	}
	if again, _ := Outstanding(dir); len(again) != 0 {
		t.Error("two have the same promise")
	}
	for _, p := range all {
		if err := p.Kept(); err != nil {
			t.Error(err)
		}
	}
	if left, _ := filepath.Glob(filepath.Join(dir, "*")); len(left) != 1 {
		t.Errorf("left: %v", left)
	}
}
