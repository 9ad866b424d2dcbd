//go:build host

package hold_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"snapd/internal/config"
	"snapd/internal/freeze"
	"snapd/internal/freeze/hold"
	"snapd/internal/point"
	"snapd/internal/workload/dockertest"
)

// killSteps are those of hold, with those of the window between them.
func killSteps() []string {
	return slices.Insert(hold.Steps(), 3, freeze.StepFrozen, freeze.StepTaken)
}

// TestKilledWhileLocksAreHeld kills the agent at every step, beside an engine
// that works and beside one that hangs from that moment on.
func TestKilledWhileLocksAreHeld(t *testing.T) {
	b := newBench(t)
	m := b.newMaria()
	b.Config = strings.Replace(b.Config, "30s", "2s", 1)
	w := m.write(allTables...)
	for _, hangs := range []bool{false, true} {
		for _, step := range killSteps() {
			t.Run(fmt.Sprintf("%s, engine hangs: %v", step, hangs), func(t *testing.T) {
				suspend := 0
				if hangs {
					suspend = docker.Pid()
				}
				died := b.kill(step, suspend)
				if step == freeze.StepFrozen || step == freeze.StepTaken {
					// Frozen members are the window's business: the next call thaws them.
					if _, err := freeze.Recover(t.Context(), freeze.Options{Dir: filepath.Join(b.Dir, "run")}); err != nil {
						t.Error(err)
					}
				}
				limit := time.Second
				if hangs {
					limit = 4 * time.Second // hold-timeout, which the server counts in whole seconds, and some more
				}
				_, at, _ := w.state()
				eventually(t, limit, "the writer goes on", func() bool {
					_, now, _ := w.state()
					return now.After(died) && now.After(at)
				})
				_, now, _ := w.state()
				t.Logf("the writer went on %v after the kill", now.Sub(died).Round(time.Millisecond))
				if hangs {
					if err := docker.Resume(); err != nil {
						t.Fatal(err)
					}
				}
				if p := b.take(); p.Consistency != point.Quiesced {
					t.Errorf("the next point: %s", p.Consistency)
				}
				if n := clientsIn(t, m.id); n != 0 {
					t.Errorf("%d clients are left in the container", n)
				}
			})
		}
	}
}

// clientsIn counts clients of snapd in a container: they have its mark.
func clientsIn(t testing.TB, id string) int {
	t.Helper()
	n := 0
	stats, err := filepath.Glob("/proc/[0-9]*/environ")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range stats {
		env, err := os.ReadFile(name)
		cgroup, _ := os.ReadFile(filepath.Join(filepath.Dir(name), "cgroup"))
		if err == nil && strings.Contains(string(cgroup), id) && strings.Contains(string(env), "SNAPD_MARK=") {
			n++
		}
	}
	return n
}

// TestTheNextCallEndsALockThatNobodyKeeps: a command that ignores the end of
// its input, after snapd was killed.
func TestTheNextCallEndsALockThatNobodyKeeps(t *testing.T) {
	b := newBench(t)
	id := b.run(dockertest.Spec{Name: "app", Mounts: []dockertest.Mount{{Source: b.subvolume("app", ""), Target: "/data"}}})
	b.Group = "app"
	b.Config = "[group.app]\ncontainers = [\"app\"]\n[group.app.container.app]\nhold = \"sh -c 'echo locked; exec sleep 1000'\"\n"
	b.kill(hold.StepHeld, 0)
	if n := clientsIn(t, id); n == 0 {
		t.Fatal("the command is not there, so that this test shows nothing")
	}
	if _, err := b.agent(nil).Thaw(t.Context()); err != nil {
		t.Error(err)
	}
	eventually(t, time.Second, "it has ended", func() bool { return clientsIn(t, id) == 0 })
	if !strings.Contains(strings.Join(b.warnings, " "), "which kept a lock or ran a hook for a killed snapd") {
		t.Errorf("no warning says so: %v", b.warnings)
	}
}

// TestEngineHangsWhileALockIsHeld suspends the engine when all locks are held.
// The lock must be gone soon after the window all the same, and there must be
// no point, since no answer confirms that the lock was held.
func TestEngineHangsWhileALockIsHeld(t *testing.T) {
	b := newBench(t)
	m := b.newMaria()
	w := m.write(allTables...)
	resume := func() {
		if err := docker.Resume(); err != nil {
			t.Error(err)
		}
	}
	a := b.agent(func(step string) {
		if step == hold.StepHeld {
			if err := docker.Suspend(); err != nil {
				t.Error(err)
			}
		}
	})
	w.forget()
	begin := time.Now()
	points, err := a.Snapshot(t.Context(), []string{"maria"})
	took := time.Since(begin)
	_, at, _ := w.state()
	eventually(t, time.Second, "the writer goes on", func() bool { _, now, _ := w.state(); return now.After(at) })
	_, _, longest := w.state()
	resume()
	t.Logf("after %v: %v; the writer waited %v at the longest", took, err, longest)
	if err == nil || len(points) != 0 || !strings.Contains(err.Error(), "was lost") {
		t.Errorf("%d points, %v", len(points), err)
	}
	if longest > 4*time.Second {
		t.Errorf("the writer waited %v", longest)
	}
	if p := b.take(); p.Consistency != point.Quiesced {
		t.Errorf("the next point: %s", p.Consistency)
	}
}

// TestALockIsReleasedAtItsDeadline: the lock is released at its own deadline although the window
// is still open.
func TestALockIsReleasedAtItsDeadline(t *testing.T) {
	for _, on := range []config.OnOverrun{config.OverrunFail, config.OverrunCrash} {
		t.Run(string(on), func(t *testing.T) {
			b := newBench(t)
			b.run(dockertest.Spec{Name: "app", Mounts: []dockertest.Mount{{Source: b.subvolume("app", ""), Target: "/data"}}})
			b.Group = "app"
			b.Config = "[group.app]\ncontainers = [\"app\"]\nhold-timeout = \"1s\"\non-overrun = \"" + string(on) + "\"\n" +
				"[group.app.container.app]\nhold = \"sh -c 'echo locked; touch /data/lock; cat; rm /data/lock'\"\n"
			lock := filepath.Join(b.btrfs, "app", "lock")
			a := b.agent(func(step string) {
				if step == hold.StepHeld { // as if taking the snapshots took long
					eventually(t, 3*time.Second, "the lock is taken", func() bool { _, err := os.Stat(lock); return err == nil })
					eventually(t, 3*time.Second, "the lock is released", func() bool { _, err := os.Stat(lock); return err != nil })
				}
			})
			points, err := a.Snapshot(t.Context(), []string{"app"})
			if on == config.OverrunFail {
				if err == nil || !strings.Contains(err.Error(), "hold-timeout allows no more") || len(points) != 0 {
					t.Errorf("%d points, %v", len(points), err)
				}
				return
			}
			if err != nil || points[0].Consistency != point.Crash || !strings.Contains(strings.Join(points[0].Warnings, " "), "was lost in the window") {
				t.Errorf("%+v, %v", points, err)
			}
		})
	}
}
