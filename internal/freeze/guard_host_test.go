//go:build host

package freeze

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"snapd/internal/proc"

	"golang.org/x/sys/unix"
)

// guardedSteps are those of a window with a guard and no filesystem.
func guardedSteps() []string {
	var out []string
	for _, s := range AllSteps() {
		if s != StepDiskFrozen && s != StepDiskThawed {
			out = append(out, s)
		}
	}
	return out
}

// SIGKILL of the agent, of the guard, and of both, at every step: every member
// runs again, by the guard, by the agent, and by the next call.
func TestKilledUnderGuard(t *testing.T) {
	sizes := []int{1}
	if long {
		sizes = []int{1, 20}
	}
	for _, n := range sizes {
		writers := newWriters(t, n, tickScript)
		var table strings.Builder
		fmt.Fprintf(&table, "%d members; kills, and the longest until all moved again\n%-10s", n, "step")
		victims := []string{"agent", "guard", "both"}
		for _, who := range victims {
			fmt.Fprintf(&table, " %22s", who)
		}
		for _, step := range guardedSteps() {
			fmt.Fprintf(&table, "\n%-10s", step)
			for _, who := range victims {
				longest := time.Duration(0)
				all := nths(step, n)
				for _, nth := range all {
					longest = max(longest, killUnderGuard(t, writers, who, step, nth))
				}
				fmt.Fprintf(&table, " %8d %10.1f ms", len(all), float64(longest.Microseconds())/1000)
			}
		}
		t.Log(table.String())
	}
}

// killUnderGuard returns how long after the kill it took until every member
// ran.
func killUnderGuard(t *testing.T, writers []writer, who, step string, nth int) time.Duration {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "run")
	v := victim{Dir: dir, Step: step, Nth: nth, Members: members(writers), Guard: true, Kill: who}
	input, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	out, err := reexec(t, "window", string(input)).CombinedOutput()
	died := time.Now()
	if want := map[string]string{"agent": "signal: killed", "both": "signal: killed", "guard": "exit status 1"}[who]; err == nil || err.Error() != want {
		t.Fatalf("%s %s %d: the child ended with %v: %s", who, step, nth, err, out)
	}
	if who == "guard" && string(out) != "done\n" {
		t.Fatalf("%s %d: without its guard the window failed: %s", step, nth, out)
	}
	if who == "both" {
		if _, err := Recover(t.Context(), Options{Dir: dir}); err != nil {
			t.Fatalf("%s %s %d: %v", who, step, nth, err)
		}
	}
	for _, w := range writers {
		for frozenNow(t, w.Cgroup) {
			if time.Since(died) > time.Second {
				t.Fatalf("%s %s %d: %s is still frozen after 1 s", who, step, nth, w.Name)
			}
			time.Sleep(time.Millisecond)
		}
	}
	took := time.Since(died)
	for _, w := range writers {
		w.moves(t)
	}
	if who == "agent" && step != StepJournal { // the guard leaves nothing to recover
		eventually(t, "the guard has removed the journal", func() bool { left, _ := filepath.Glob(dir + "/*"); return len(left) == 0 })
	}
	if _, err := Recover(t.Context(), Options{Dir: dir}); err != nil {
		t.Fatal(err)
	}
	noJournal(t, dir)
	return took
}

// An agent that is held up by SIGSTOP in the middle does not come to its own
// deadline: the guard does, and the window fails when it goes on.
func TestGuardThawsAtTheDeadline(t *testing.T) {
	writers := newWriters(t, 3, tickScript)
	for _, step := range []string{StepFreezing, StepFrozen, StepTaken} {
		dir := filepath.Join(t.TempDir(), "run")
		const deadline = time.Second
		input, err := json.Marshal(victim{Dir: dir, Step: step, Nth: 1, Members: members(writers), Guard: true, Kill: "hang", Deadline: deadline})
		if err != nil {
			t.Fatal(err)
		}
		cmd := reexec(t, "window", string(input))
		var out strings.Builder
		cmd.Stdout, cmd.Stderr = &out, &out
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		eventually(t, "it is held up", func() bool { return stateOf(cmd.Process.Pid) == "T" })
		stopped := time.Now()
		eventually(t, "the guard has thawed all", func() bool {
			for _, w := range writers {
				if frozenNow(t, w.Cgroup) {
					return false
				}
			}
			return true
		})
		if took := time.Since(stopped); step != StepFreezing && (took < deadline/2 || took > deadline+time.Second) {
			t.Errorf("%s: thawed %v after the window began, with a deadline of %v", step, took, deadline)
		}
		// Also the one that had been told first and was not yet seen frozen.
		time.Sleep(time.Until(stopped.Add(deadline + 2*guardGrace)))
		if err := unix.Kill(cmd.Process.Pid, unix.SIGCONT); err != nil {
			t.Fatal(err)
		}
		_ = cmd.Wait()
		if !strings.Contains(out.String(), "window") {
			t.Errorf("%s: a window that the guard ended was a success: %q", step, out.String())
		}
		for _, w := range writers {
			w.moves(t)
		}
		noJournal(t, dir)
	}
}

func stateOf(pid int) string {
	p, err := proc.Look(pid)
	if err != nil {
		return ""
	}
	return string(p.State)
}

// The guard has its own session, locked memory, and the descriptors that it
// needs and no other; a signal makes it thaw, and the window fails.
func TestGuardItself(t *testing.T) {
	writers := newWriters(t, 2, tickScript)
	o := options(t)
	o.Guard = true
	inherited, err := unix.Open("/etc/passwd", unix.O_RDONLY, 0) // without close-on-exec
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(inherited)
	w := prepare(t, members(writers), o)
	pid := w.guard.pid
	if sid, err := unix.Getsid(pid); err != nil || sid != pid {
		t.Errorf("session %d, %v", sid, err)
	}
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(status)) {
		if strings.HasPrefix(line, "VmRSS") || strings.HasPrefix(line, "VmLck") {
			t.Log(strings.Join(strings.Fields(line), " "))
			if strings.HasPrefix(line, "VmLck") && strings.Fields(line)[1] == "0" {
				t.Error("its memory is not locked")
			}
		}
	}
	links, err := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", pid))
	if err != nil {
		t.Fatal(err)
	}
	for _, link := range links {
		to, _ := os.Readlink(link)
		if strings.HasPrefix(to, "/") && to != "/dev/null" && !strings.HasPrefix(to, o.Dir) && !strings.HasSuffix(to, "/cgroup.freeze") &&
			!strings.Contains(to, "/cpu.") { // Go's runtime looks there how many processors it has
			t.Errorf("it has %s open", to)
		}
	}
	_, err = w.Run(func() error {
		if err := unix.Kill(pid, unix.SIGTERM); err != nil {
			return err
		}
		eventually(t, "a signal makes it thaw", func() bool { return !frozenNow(t, writers[0].Cgroup) && !frozenNow(t, writers[1].Cgroup) })
		return nil
	})
	if err == nil || !strings.Contains(err.Error(), "guard thawed everything") {
		t.Errorf("got %v", err)
	}
	closed(t, w)
	noJournal(t, o.Dir)
	if guards := guardsOf(os.Getpid()); len(guards) > 0 {
		t.Errorf("guards that outlived their windows: %v", guards)
	}
}

// A guard that was killed before the window is replaced.
func TestGuardIsReplaced(t *testing.T) {
	writers := newWriters(t, 1, tickScript)
	o := options(t)
	o.Guard = true
	w := prepare(t, members(writers), o)
	first := w.guard.pid
	w.guard.kill()
	eventually(t, "it is gone", func() bool { return unix.Kill(first, 0) != nil })
	if _, err := w.Run(func() error {
		if guards := guardsOf(os.Getpid()); len(guards) != 1 || guards[0] == first {
			t.Errorf("guards %v, the first was %d", guards, first)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	closed(t, w)
	noJournal(t, o.Dir)
}

// A guard that hangs keeps Recover waiting for a while, and not longer.
func TestRecoverOutlastsAGuardThatHangs(t *testing.T) {
	writers := newWriters(t, 2, tickScript)
	dir := filepath.Join(t.TempDir(), "run")
	w := prepare(t, members(writers), Options{Dir: dir, Deadline: 5 * time.Second, Guard: true})
	guard := w.guard.pid
	if err := w.begin(mustArm(t, w)); err != nil {
		t.Fatal(err)
	}
	if err := w.freeze(); err != nil {
		t.Fatal(err)
	}
	if err := unix.Kill(guard, unix.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	if err := w.journal.close(); err != nil { // as death would
		t.Fatal(err)
	}
	got, err := Recover(t.Context(), Options{Dir: dir})
	if err != nil || len(got) != 2 || got[0].Outcome != Thawed {
		t.Errorf("got %+v, %v", got, err)
	}
	if err := unix.Kill(guard, 0); err == nil && stateOf(guard) != "Z" {
		t.Errorf("the guard that hung is still there: %s", stateOf(guard))
	}
	for _, w := range writers {
		w.moves(t)
	}
	noJournal(t, dir)
	w.guard.close()
	w.guard, w.journal = nil, nil
}

func mustArm(t *testing.T, w *Window) *alarm {
	t.Helper()
	a, err := w.arm()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(a.stop)
	return a
}
