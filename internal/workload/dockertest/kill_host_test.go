//go:build host

package dockertest_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"snapd/internal/freeze"
	"snapd/internal/workload"
	"snapd/internal/workload/dockertest"

	apicontainer "github.com/docker/docker/api/types/container"
)

// steps are those of a window with a guard and containers.
func steps() []string {
	return slices.DeleteFunc(freeze.AllSteps(), func(s string) bool { return s == freeze.StepDiskFrozen || s == freeze.StepDiskThawed })
}

// nths are the occurrences of a step to be killed at.
func nths(step string, n int) []int {
	if step != freeze.StepFreezing && step != freeze.StepThawing {
		return []int{1}
	}
	return slices.Compact([]int{1, (n + 1) / 2, n})
}

// SIGKILL of the agent, of the guard, and of both, at every step of the window,
// with every way to freeze: all containers run again, by the guard, by
// the agent, or by the next call, within a second; those that only the engine
// can thaw as soon as it does.
func TestKillMatrix(t *testing.T) {
	e := connect(t)
	sizes := []int{1}
	if long {
		sizes = []int{1, 20}
	}
	for _, n := range sizes {
		var members []freeze.Member
		for i := range n {
			// A shell as process 1 would ignore the usual signal and be waited for.
			members = append(members, start(t, e, dockertest.Spec{Name: fmt.Sprintf("matrix-%d-%d", n, i), Signal: "SIGKILL"}))
		}
		for _, how := range []freeze.How{freeze.ByCgroup, freeze.ByPause, freeze.ByStop} {
			t.Run(fmt.Sprintf("%d by %s", n, how), func(t *testing.T) { killMatrix(t, e, members, how) })
		}
	}
}

func killMatrix(t *testing.T, e *workload.Engine, members []freeze.Member, how freeze.How) {
	t.Helper()
	var table strings.Builder
	fmt.Fprintf(&table, "%d containers by %s; kills, and the longest until all ran again\n%-9s", len(members), how, "step")
	victims := []string{"agent", "guard", "both"}
	for _, who := range victims {
		fmt.Fprintf(&table, " %18s", who)
	}
	for _, step := range steps() {
		fmt.Fprintf(&table, "\n%-9s", step)
		for _, who := range victims {
			longest := time.Duration(0)
			all := nths(step, len(members))
			for _, nth := range all {
				longest = max(longest, killOnce(t, e, members, how, who, step, nth))
			}
			fmt.Fprintf(&table, " %4d %10.1f ms", len(all), float64(longest.Microseconds())/1000)
		}
	}
	t.Log(table.String())
}

func killOnce(t *testing.T, e *workload.Engine, members []freeze.Member, how freeze.How, who, step string, nth int) time.Duration {
	t.Helper()
	v := victim{Host: docker.Host, Dir: filepath.Join(t.TempDir(), "run"), Step: step, Nth: nth, Kill: who}
	for _, m := range members {
		m = member(t, e, m.ID) // it may have been started anew
		m.Pause, m.Stop = how == freeze.ByPause, how == freeze.ByStop
		v.Members = append(v.Members, m)
	}
	input, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), envVictim+"="+string(input))
	out, err := cmd.CombinedOutput()
	died := time.Now()
	if want := map[bool]string{false: "signal: killed", true: "exit status 1"}[who == "guard"]; err == nil || err.Error() != want || who == "guard" && string(out) != "<nil>\n" {
		t.Fatalf("%s %s %d: the child ended with %v: %s", who, step, nth, err, out)
	}
	if who == "both" {
		if _, err := freeze.Recover(t.Context(), freeze.Options{Dir: v.Dir, Engine: e}); err != nil {
			t.Fatalf("%s %s %d: %v", who, step, nth, err)
		}
	}
	limit := time.Second
	if how != freeze.ByCgroup {
		limit = deadline + time.Second // the engine takes its time, on a busy host
	}
	for !allRun(t, e, v.Members) {
		if time.Since(died) > limit {
			t.Fatalf("%s %s %d: not all run again after %v", who, step, nth, limit)
		}
		time.Sleep(time.Millisecond)
	}
	took := time.Since(died)
	if who == "agent" && step != freeze.StepJournal {
		eventually(t, "the guard has removed the journal", func() bool { left, _ := filepath.Glob(v.Dir + "/*"); return len(left) == 0 })
	}
	if _, err := freeze.Recover(t.Context(), freeze.Options{Dir: v.Dir, Engine: e}); err != nil {
		t.Fatal(err)
	}
	if left, _ := filepath.Glob(v.Dir + "/*"); len(left) > 0 {
		t.Errorf("%s %s %d: left %v", who, step, nth, left)
	}
	return took
}

// allRun tells whether every container runs, is not paused, and its cgroup
// stands not still.
func allRun(t *testing.T, e *workload.Engine, members []freeze.Member) bool {
	t.Helper()
	for _, m := range members {
		running, paused, err := e.State(t.Context(), m.ID)
		if err != nil {
			t.Fatal(err)
		}
		if !running || paused {
			return false
		}
		if m.Stop {
			continue // in a cgroup of its own since
		}
		events, err := os.ReadFile(filepath.Join(m.Cgroup, "cgroup.events"))
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(events), "frozen 1") {
			return false
		}
	}
	return true
}

// Containers are stopped front ends first and started databases first. One that
// depends on another waits until that is healthy.
func TestStopsAndStartsInOrder(t *testing.T) {
	e := connect(t)
	db := start(t, e, dockertest.Spec{Name: "stop-db", Change: func(c *apicontainer.Config, _ *apicontainer.HostConfig) {
		c.StopSignal = "SIGKILL"
		c.Healthcheck = &apicontainer.HealthConfig{Test: []string{"CMD", "/bin/true"}, Interval: 300 * time.Millisecond, Timeout: 5 * time.Second, Retries: 2}
	}})
	web := start(t, e, dockertest.Spec{Name: "stop-web", Signal: "SIGKILL"})
	idle := start(t, e, dockertest.Spec{Name: "stop-idle", Signal: "SIGKILL"})
	if err := e.Stop(t.Context(), idle.ID); err != nil {
		t.Fatal(err)
	}
	web.Stop, db.Stop, idle.Stop, db.Rank = true, true, true, 1
	o := freeze.Options{Dir: filepath.Join(t.TempDir(), "run"), Deadline: 10 * time.Second, Engine: e, EngineHost: docker.Host, Guard: true}
	timings, stood, err := window(t, o, []freeze.Member{web, idle, db}, func() error {
		for _, m := range []freeze.Member{web, db} {
			if running, _, err := e.State(t.Context(), m.ID); err != nil || running {
				t.Errorf("%s runs in the window: %v", m.Name, err)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%+v", timings)
	for i, want := range []freeze.How{freeze.ByStop, freeze.NotRunning, freeze.ByStop} {
		if stood[i].How != want || stood[i].Unwell != "" {
			t.Errorf("%+v", stood[i])
		}
	}
	at := func(m freeze.Member) (start, end time.Time, health string) {
		in, err := docker.API.ContainerInspect(t.Context(), m.ID)
		if err != nil || in.State == nil {
			t.Fatal(err)
		}
		start, _ = time.Parse(time.RFC3339Nano, in.State.StartedAt)
		end, _ = time.Parse(time.RFC3339Nano, in.State.FinishedAt)
		if in.State.Health != nil {
			health = in.State.Health.Status
		}
		return start, end, health
	}
	dbStart, dbEnd, health := at(db)
	webStart, webEnd, _ := at(web)
	if !webEnd.Before(dbEnd) || !dbStart.Before(webStart) || webStart.Sub(dbStart) < 200*time.Millisecond || health != "healthy" {
		t.Errorf("web ended %v, db ended %v, db started %v (%s), web started %v", webEnd, dbEnd, dbStart, health, webStart)
	}
	if running, _, err := e.State(t.Context(), idle.ID); err != nil || running {
		t.Errorf("what had been stopped before runs: %v", err)
	}
}

// One that does not become healthy again is named, and keeps no other down.
func TestStopWithoutGettingWell(t *testing.T) {
	e := connect(t)
	db := start(t, e, dockertest.Spec{Name: "unwell-db", Change: func(c *apicontainer.Config, _ *apicontainer.HostConfig) {
		c.StopSignal = "SIGKILL"
		c.Healthcheck = &apicontainer.HealthConfig{Test: []string{"CMD", "/bin/false"}, Interval: 100 * time.Millisecond, Timeout: 5 * time.Second, Retries: 1000}
	}})
	web := start(t, e, dockertest.Spec{Name: "unwell-web", Signal: "SIGKILL"})
	db.Stop, web.Stop, db.Rank = true, true, 1
	o := freeze.Options{Dir: filepath.Join(t.TempDir(), "run"), Deadline: 10 * time.Second, Engine: e, Wait: 500 * time.Millisecond}
	_, stood, err := window(t, o, []freeze.Member{web, db}, func() error { return nil })
	if err != nil {
		t.Fatal(err)
	}
	if stood[0].Unwell != "" || !strings.Contains(stood[1].Unwell, "not healthy after 500ms") {
		t.Errorf("stood %+v", stood)
	}
	for _, m := range []freeze.Member{db, web} {
		if running, _, err := e.State(t.Context(), m.ID); err != nil || !running {
			t.Errorf("%s does not run: %v", m.Name, err)
		}
	}
}

// The engine is stopped, and restarted, in the middle; cgroups do not need
// it. What it paused waits for it.
func TestEngineStoppedAndRestartedInTheMiddle(t *testing.T) {
	dir, err := os.MkdirTemp("", "sd")
	if err != nil {
		t.Fatal(err)
	}
	ctx := context.WithoutCancel(t.Context())
	d, err := dockertest.Start(ctx, dir, "--live-restore")
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := d.Stop(ctx); err != nil {
			t.Error(err)
		}
	}()
	if err := d.ImportBusybox(ctx); err != nil {
		t.Fatal(err)
	}
	e, err := workload.Connect(ctx, d.Host)
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	data := t.TempDir()
	id, err := d.Run(ctx, writer("lives-on", data))
	if err != nil {
		t.Fatal(err)
	}
	m := memberOf(t, e, id)
	file := filepath.Join(data, "lives-on")
	moves := func(when string) {
		t.Helper()
		before := size(t, file)
		eventually(t, "it writes "+when, func() bool { return size(t, file) > before })
	}
	eventually(t, "it writes", func() bool { _, err := os.Stat(file); return err == nil })
	o := freeze.Options{Dir: t.TempDir(), Deadline: time.Minute, Engine: e, EngineHost: d.Host, Guard: true}
	for _, middle := range []struct {
		name   string
		take   func() error
		before func() error
	}{
		{name: "stopped", take: d.Halt},
		{name: "not there from the beginning", take: func() error { return nil }},
		{name: "started", take: func() error { return d.Again(ctx) }},
		{name: "restarted", take: func() error { return errors.Join(d.Halt(), d.Again(ctx)) }},
		{name: "hanging", take: d.Suspend},
		{name: "hanging from the beginning", take: func() error { return nil }},
	} {
		begun := time.Now()
		_, stood, err := window(t, o, []freeze.Member{m}, middle.take)
		if err != nil || stood[0].How != freeze.ByCgroup {
			t.Errorf("%s: %+v, %v", middle.name, stood, err)
		}
		moves(middle.name)
		t.Logf("engine %s: the window and what is around it took %v", middle.name, time.Since(begun).Round(time.Millisecond))
	}
	if err := d.Resume(); err != nil {
		t.Fatal(err)
	}
	m.Pause = true
	_, _, err = window(t, o, []freeze.Member{m}, func() error { return errors.Join(d.Halt(), d.Again(ctx)) })
	if err != nil {
		t.Errorf("paused, and the engine restarted: %v", err)
	}
	moves("after a pause")
}

func memberOf(t testing.TB, e *workload.Engine, id string) freeze.Member {
	t.Helper()
	return member(t, e, id)
}
