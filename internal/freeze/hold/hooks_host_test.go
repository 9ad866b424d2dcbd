//go:build host

package hold_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"snapd/internal/advice"
	"snapd/internal/agent"
	"snapd/internal/freeze"
	"snapd/internal/point"
	"snapd/internal/workload/dockertest"
)

// app is a container with one volume that obeys labels alone.
func (b *bench) app(labels map[string]string) (id, dir string) {
	b.t.Helper()
	dir = filepath.Join(b.btrfs, "app data")
	if _, err := os.Stat(dir); err != nil {
		b.subvolume("app data", "")
	}
	all := map[string]string{"snapd.enable": "true"}
	for k, v := range labels {
		all["snapd."+k] = v
	}
	b.Group = "app"
	return b.run(dockertest.Spec{Name: "app", Labels: all, Mounts: []dockertest.Mount{{Source: dir, Target: "/data"}}}), dir
}

// log is what hooks wrote into the volume, one word each.
func log(t testing.TB, dir string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(dir, "log"))
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	return strings.Join(strings.Fields(string(text)), " ")
}

const (
	sayBefore = "sh -c 'echo before >>/data/log; id -u; echo to the other >&2'"
	sayAfter  = "sh -c 'echo after >>/data/log'"
)

func TestHooksRunAroundAPoint(t *testing.T) {
	b := newBench(t)
	_, dir := b.app(map[string]string{"exec.before": sayBefore, "exec.after": sayAfter, "exec.user": "0:0"})
	p := b.take()
	if got := log(t, dir); got != "before after" {
		t.Errorf("ran: %s", got)
	}
	if got := log(t, b.restore(p, "copy")); got != "before" {
		t.Errorf("the point holds what had run: %s", got)
	}
	if len(p.Hooks) != 2 || p.Hooks[0].When != "before" || p.Hooks[0].Seconds <= 0 || p.Hooks[1].Exit != 0 {
		t.Fatalf("%+v", p.Hooks)
	}
	// Docker reads two pipes, and promises no order between them.
	if got := p.Hooks[0].Output; got != "0\nto the other\n" && got != "to the other\n0\n" {
		t.Errorf("kept of its output: %q", got)
	}
	var kept point.Point
	text, err := os.ReadFile(filepath.Join(b.Dir, "state", "points", string(p.ID)+".json"))
	if err == nil {
		err = json.Unmarshal(text, &kept)
	}
	if err != nil || len(kept.Hooks) != 2 {
		t.Errorf("in the restore point: %+v, %v", kept.Hooks, err)
	}
	b.nothingOwed()
}

func (b *bench) nothingOwed() {
	b.t.Helper()
	if left, _ := filepath.Glob(filepath.Join(b.Dir, "state", "hooks", "*")); len(left) > 0 {
		b.t.Errorf("owed: %v", left)
	}
}

func TestHooksThatGoWrong(t *testing.T) {
	for _, c := range []struct {
		name   string
		labels map[string]string
		group  string
		says   string
		ran    string
		points int
	}{
		{"before fails", map[string]string{"exec.before": "sh -c 'echo before >>/data/log; echo disk is full >&2; exit 7'", "exec.after": sayAfter}, "", "ended with status 7; it said: disk is full", "before after", 0},
		{"before is not there", map[string]string{"exec.before": "no-such-program x", "exec.after": sayAfter}, "", "status 12", "after", 0},
		{"before takes too long", map[string]string{"exec.before": "sh -c 'echo before >>/data/log; sleep 1000 & sleep 1000'", "exec.after": sayAfter}, "hook-timeout = \"1s\"", "took too long (hook-timeout is 1s)", "before after", 0},
		{"before leaves something that prints", map[string]string{"exec.before": "sh -c 'sleep 1000 &'", "exec.after": sayAfter}, "hook-timeout = \"1s\"", "took too long", "after", 0},
		{"after fails", map[string]string{"exec.before": sayBefore, "exec.after": "sh -c 'echo after >>/data/log; exit 1'"}, "", "hook after the point in container app: it ended with status 1", "before after", 1},
		{"a user that is not there", map[string]string{"exec.before": sayBefore, "exec.after": sayAfter, "exec.user": "nobody-here"}, "", "nobody-here", "", 0},
		{"the lock is not had", map[string]string{"exec.before": sayBefore, "exec.after": sayAfter, "hold": "no-such-program"}, "", "the lock was not taken: its command ended with status 126; it said: OCI runtime exec failed", "before after", 0},
		{"refused", map[string]string{"exec.before": sayBefore, "exec.after": sayAfter}, "paths = [\"/dev/shm\"]", "path /dev/shm cannot be snapshotted", "", 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newBench(t)
			if c.group != "" {
				b.Config = "[group.app]\n" + c.group + "\n"
			}
			id, dir := b.app(c.labels)
			points, err := b.agent(nil).Snapshot(t.Context(), []string{"app"})
			if err == nil || !strings.Contains(err.Error(), c.says) || len(points) != c.points {
				t.Errorf("%d points, %v", len(points), err)
			}
			if got := log(t, dir); got != c.ran {
				t.Errorf("ran: %q, want %q", got, c.ran)
			}
			if n := clientsIn(t, id); n != 0 {
				t.Errorf("%d processes are left", n)
			}
			if c.points == 1 && (len(points[0].Hooks) != 2 || points[0].Hooks[1].Exit != 1) {
				t.Errorf("%+v", points[0].Hooks)
			}
			b.nothingOwed()
		})
	}
}

// TestKilledBetweenHooks: whatever was begun, the next call runs what is owed,
// once the one that died is gone; and runs no hook whose other was not begun.
func TestKilledBetweenHooks(t *testing.T) {
	for step, want := range map[string]string{
		agent.StepPromised:  "after before after", // not known whether it was begun
		agent.StepBefore:    "before after before after",
		agent.StepRecorded:  "before after before after",
		agent.StepAfter:     "before after after before after", // not known whether all of it ran
		agent.StepAfterDone: "before after before after",
	} {
		t.Run(step, func(t *testing.T) {
			b := newBench(t)
			_, dir := b.app(map[string]string{"exec.before": sayBefore, "exec.after": sayAfter})
			b.kill(step, 0)
			b.take()
			if got := log(t, dir); got != want {
				t.Errorf("ran: %s, want %s", got, want)
			}
			b.nothingOwed()
		})
	}
}

// TestKilledWhileAHookRuns: the next call ends what still runs before it undoes
// it; a container that does not run is waited for, one that is gone is not.
func TestKilledWhileAHookRuns(t *testing.T) {
	b := newBench(t)
	id, dir := b.app(map[string]string{
		"exec.before": "sh -c 'echo before >>/data/log; sleep 1000; echo late >>/data/log'", "exec.after": sayAfter,
	})
	die := func() {
		t.Helper()
		b.killWhen(func() bool { return strings.HasSuffix(log(t, dir), "before") })
	}
	die()
	if clientsIn(t, id) == 0 {
		t.Fatal("the hook does not run any more, so that this test shows nothing")
	}
	recovered, err := b.agent(nil).Thaw(t.Context())
	if n := len(recovered); err != nil || n < 2 || !strings.Contains(recovered[n-1], "was run") || !strings.Contains(recovered[0], "ran a hook for a killed snapd, was ended") {
		t.Errorf("%v, %v", recovered, err)
	}
	if got, n := log(t, dir), clientsIn(t, id); got != "before after" || n != 0 {
		t.Errorf("ran: %s, and %d processes are left", got, n)
	}
	b.nothingOwed()

	die()
	command(t, "docker", "-H", docker.Host, "stop", "-t", "0", id)
	if recovered, _ := b.agent(nil).Thaw(t.Context()); len(recovered) != 1 || !strings.Contains(recovered[0], "waits until that container runs") {
		t.Errorf("%v", recovered)
	}
	command(t, "docker", "-H", docker.Host, "start", id)
	if recovered, _ := b.agent(nil).Thaw(t.Context()); len(recovered) != 1 || log(t, dir) != "before after before after" {
		t.Errorf("%v, ran: %s", recovered, log(t, dir))
	}
	die()
	b.remove(id)
	if recovered, _ := b.agent(nil).Thaw(t.Context()); len(recovered) != 1 || !strings.Contains(recovered[0], "is gone") {
		t.Errorf("%v", recovered)
	}
	b.nothingOwed()
}

// TestAHoldCommandOfALabel takes a lock that a writer heeds: the point is of an
// instant between two of its steps.
func TestAHoldCommandOfALabel(t *testing.T) {
	b := newBench(t)
	dir := b.subvolume("app data", "")
	b.Group = "app"
	b.run(dockertest.Spec{
		Name: "app", Mounts: []dockertest.Mount{{Source: dir, Target: "/data"}},
		Labels: map[string]string{
			"snapd.enable": "true",
			"snapd.hold":   `sh -c 'until mkdir /tmp/lock 2>/dev/null; do :; done; echo "I have it"; cat; rm -r /tmp/lock'`,
		},
		Cmd: []string{"sh", "-c", `n=0; while :; do until mkdir /tmp/lock 2>/dev/null; do :; done; n=$((n+1)); echo $n >/data/a; sleep 0.01; echo $n >/data/b; rm -r /tmp/lock; sleep 0.01; done`},
	})
	for i := range 10 {
		p := b.take()
		if p.Consistency != point.Quiesced || p.Quiesced[0].Said != "I have it" || p.Quiesced[0].By != "command" {
			t.Errorf("%s, %+v", p.Consistency, p.Quiesced)
		}
		copied := b.restore(p, fmt.Sprint("copy", i))
		one, _ := os.ReadFile(filepath.Join(copied, "a"))
		two, _ := os.ReadFile(filepath.Join(copied, "b"))
		if string(one) != string(two) || len(one) == 0 {
			t.Errorf("point %d: %q and %q", i, one, two)
		}
	}
}

// killWhen takes a point in another process and kills it when is says so.
func (b *bench) killWhen(is func() bool) {
	b.t.Helper()
	cmd := b.victim("never")
	if err := cmd.Start(); err != nil {
		b.t.Fatal(err)
	}
	eventually(b.t, 20*time.Second, "the victim has come that far", is)
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
}

// TestAHookAfterWaitsForItsContainer: it was stopped while its point was taken.
func TestAHookAfterWaitsForItsContainer(t *testing.T) {
	b := newBench(t)
	id, dir := b.app(map[string]string{"exec.before": sayBefore, "exec.after": sayAfter})
	points, err := b.agent(func(step string) {
		if step == agent.StepRecorded {
			command(t, "docker", "-H", docker.Host, "stop", "-t", "0", id)
		}
	}).Snapshot(t.Context(), []string{"app"})
	if err == nil || len(points) != 1 || !strings.Contains(err.Error(), "that hook has yet to run") || !strings.Contains(advice.Of(err), "snapd thaw") {
		t.Errorf("%d points, %v", len(points), err)
	}
	// Stopped containers have points without hooks.
	if p := b.take(); len(p.Hooks) != 0 || !strings.Contains(strings.Join(p.Warnings, " "), "its hooks did not either") {
		t.Errorf("%+v, %q", p.Hooks, p.Warnings)
	}
	command(t, "docker", "-H", docker.Host, "start", id)
	b.take()
	if got := log(t, dir); got != "before after before after" {
		t.Errorf("ran: %s", got)
	}
	b.nothingOwed()
}

// TestHooksRunInWhatADeadWindowLeftFrozen: it is thawed first.
func TestHooksRunInWhatADeadWindowLeftFrozen(t *testing.T) {
	b := newBench(t)
	b.Config = "[group.app]\nfreeze = \"freeze\"\n"
	_, dir := b.app(map[string]string{"exec.before": sayBefore, "exec.after": sayAfter, "hold": "sh -c 'echo locked; cat'"})
	b.kill(freeze.StepFrozen, 0)
	if p := b.take(); p.Consistency != point.Quiesced || p.WindowUS == 0 {
		t.Errorf("%s, window %d", p.Consistency, p.WindowUS)
	}
	if got := log(t, dir); got != "before after before after" {
		t.Errorf("ran: %s", got)
	}
	b.nothingOwed()
}

// TestAPausedMemberDoesNotAgree, and stays paused.
func TestAPausedMemberDoesNotAgree(t *testing.T) {
	b := newBench(t)
	id, _ := b.app(map[string]string{"hold": "sh -c 'echo locked; cat'"})
	command(t, "docker", "-H", docker.Host, "pause", id)
	p := b.take()
	if p.Consistency != point.Crash || len(p.Quiesced) != 0 || !strings.Contains(strings.Join(p.Warnings, " "), "is paused") {
		t.Errorf("%s, %+v, %q", p.Consistency, p.Quiesced, p.Warnings)
	}
	in, err := docker.API.ContainerInspect(t.Context(), id)
	if err != nil || !in.State.Paused {
		t.Errorf("it was thawed: %v", err)
	}
	command(t, "docker", "-H", docker.Host, "unpause", id)
}
