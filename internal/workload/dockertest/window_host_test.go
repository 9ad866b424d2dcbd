//go:build host

package dockertest_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"snapd/internal/freeze"
	"snapd/internal/workload"
	"snapd/internal/workload/dockertest"

	apicontainer "github.com/docker/docker/api/types/container"
	"golang.org/x/sys/unix"
)

// These tests join freeze and workload on a real engine; neither of the two
// may import the other.

var docker *dockertest.Docker

const envVictim = "SNAPD_DOCKERTEST_VICTIM"

func TestMain(m *testing.M) {
	if freeze.IsGuard() {
		os.Exit(freeze.Guard(context.Background(), func(ctx context.Context, host string) (freeze.Engine, error) { return workload.Connect(ctx, host) }))
	}
	if input := os.Getenv(envVictim); input != "" {
		fmt.Println(beVictim(input))
		os.Exit(1)
	}
	os.Exit(run(m))
}

func run(m *testing.M) (code int) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	dir, err := os.MkdirTemp("", "sd")
	if err != nil {
		fmt.Println(err)
		return 1
	}
	if docker, err = dockertest.Start(ctx, dir); err != nil {
		fmt.Println(err)
		return 1
	}
	defer func() {
		if err := docker.Stop(ctx); err != nil {
			fmt.Println("stop the engine:", err)
			code = 1
		}
		if _, err := os.Stat(dir); !os.IsNotExist(err) {
			fmt.Println("the engine left its directory:", err)
			code = 1
		}
	}()
	if err := docker.ImportBusybox(ctx); err != nil {
		fmt.Println(err)
		return 1
	}
	return m.Run()
}

func connect(t testing.TB) *workload.Engine {
	t.Helper()
	e, err := workload.Connect(t.Context(), docker.Host)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = e.Close() })
	return e
}

// start runs a container that the end of the test removes, and returns it as
// a member of a window.
func start(t testing.TB, e *workload.Engine, s dockertest.Spec) freeze.Member {
	t.Helper()
	id, err := docker.Run(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	ctx := context.WithoutCancel(t.Context())
	t.Cleanup(func() {
		if err := docker.Remove(ctx, id); err != nil && !strings.Contains(err.Error(), "No such container") {
			t.Error(err)
		}
	})
	return member(t, e, id)
}

func member(t testing.TB, e *workload.Engine, id string) freeze.Member {
	t.Helper()
	all, err := e.Containers(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range all {
		if c.ID == id {
			return freeze.Member{Kind: freeze.Container, ID: c.ID, Name: c.Name, Cgroup: c.Cgroup, Pid: c.Pid}
		}
	}
	t.Fatalf("no container %s", id)
	return freeze.Member{}
}

func writer(name string, source string) dockertest.Spec {
	return dockertest.Spec{
		Name: name, Cmd: []string{"/bin/sh", "-c", "while :; do echo x >>/data/" + name + "; done"},
		Mounts: []dockertest.Mount{{Source: source, Target: "/data"}},
	}
}

func size(t testing.TB, file string) int64 {
	t.Helper()
	st, err := os.Stat(file)
	if err != nil {
		t.Fatal(err)
	}
	return st.Size()
}

func eventually(t testing.TB, what string, is func() bool) {
	t.Helper()
	deadline := time.Now().Add(15 * time.Second)
	for !is() {
		if time.Now().After(deadline) {
			t.Fatalf("after 15 s it is still not so that %s", what)
		}
		time.Sleep(time.Millisecond)
	}
}

func window(t testing.TB, o freeze.Options, members []freeze.Member, take func() error) (freeze.Timings, []freeze.Stood, error) {
	t.Helper()
	w, err := freeze.Prepare(t.Context(), members, o)
	if err != nil {
		t.Fatal(err)
	}
	timings, err := w.Run(take)
	stood := w.Stood()
	if err := w.Close(); err != nil {
		t.Error(err)
	}
	return timings, stood, err
}

func TestContainersStandStill(t *testing.T) {
	e := connect(t)
	for _, pause := range []bool{false, true} {
		t.Run(fmt.Sprintf("pause=%t", pause), func(t *testing.T) {
			dir := t.TempDir()
			a, b := start(t, e, writer("still-a", dir)), start(t, e, writer("still-b", dir))
			files := []string{filepath.Join(dir, "still-a"), filepath.Join(dir, "still-b")}
			a.Pause, b.Pause = pause, pause
			for _, f := range files {
				eventually(t, "both write", func() bool { st, err := os.Stat(f); return err == nil && st.Size() > 0 })
			}
			o := freeze.Options{Dir: t.TempDir(), Deadline: 5 * time.Second, Engine: e}
			timings, stood, err := window(t, o, []freeze.Member{a, b}, func() error {
				before := []int64{size(t, files[0]), size(t, files[1])}
				time.Sleep(20 * time.Millisecond)
				for i, f := range files {
					if after := size(t, f); after != before[i] {
						t.Errorf("%s grew by %d in the window", f, after-before[i])
					}
				}
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
			if want := map[bool]freeze.How{false: freeze.ByCgroup, true: freeze.ByPause}[pause]; stood[0].How != want || stood[1].How != want {
				t.Errorf("stood %+v", stood)
			}
			t.Logf("freeze %v, thaw %v", timings.Freeze, timings.Thaw)
			for _, f := range files {
				before := size(t, f)
				eventually(t, "both write again", func() bool { return size(t, f) > before })
			}
		})
	}
}

func TestPausedAndStoppedBeforeStaySo(t *testing.T) {
	e := connect(t)
	paused, stopped, running := start(t, e, dockertest.Spec{Name: "was-paused"}), start(t, e, dockertest.Spec{Name: "was-stopped"}), start(t, e, dockertest.Spec{Name: "was-running"})
	if err := e.Pause(t.Context(), paused.ID); err != nil {
		t.Fatal(err)
	}
	if err := docker.API.ContainerKill(t.Context(), stopped.ID, "KILL"); err != nil {
		t.Fatal(err)
	}
	eventually(t, "it is stopped", func() bool { running, _, err := e.State(t.Context(), stopped.ID); return err == nil && !running })
	o := freeze.Options{Dir: t.TempDir(), Deadline: 5 * time.Second, Engine: e}
	members := []freeze.Member{paused, stopped, running}
	_, stood, err := window(t, o, members, func() error { return nil })
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []freeze.How{freeze.LeftAlone, freeze.NotRunning, freeze.ByCgroup} {
		if stood[i].How != want {
			t.Errorf("%s: %s", stood[i].Name, stood[i].How)
		}
	}
	if _, is, err := e.State(t.Context(), paused.ID); err != nil || !is {
		t.Errorf("what was paused is not any more: %v", err)
	}
	if is, _, err := e.State(t.Context(), stopped.ID); err != nil || is {
		t.Errorf("what was stopped runs: %v", err)
	}
	_, _, err = window(t, o, members, func() error { return e.Unpause(t.Context(), paused.ID) })
	if !errors.Is(err, freeze.ErrDisturbed) {
		t.Errorf("unpaused by another program in the window: %v", err)
	}
}

func TestContainerEndsOrIsRestarted(t *testing.T) {
	e := connect(t)
	m := start(t, e, dockertest.Spec{Name: "ends"})
	o := freeze.Options{Dir: t.TempDir(), Deadline: 5 * time.Second, Engine: e}
	_, stood, err := window(t, o, []freeze.Member{m}, func() error {
		if err := docker.API.ContainerKill(t.Context(), m.ID, "KILL"); err != nil {
			return err
		}
		eventually(t, "it has ended", func() bool { _, err := os.Stat(m.Cgroup); return os.IsNotExist(err) })
		return nil
	})
	if err != nil || !stood[0].Gone {
		t.Errorf("stood %+v, %v", stood, err)
	}
	if err := docker.API.ContainerStart(t.Context(), m.ID, apicontainer.StartOptions{}); err != nil {
		t.Fatal(err)
	}
	// m is of the time before the restart.
	if _, err := freeze.Prepare(t.Context(), []freeze.Member{m}, o); !errors.Is(err, freeze.ErrChanged) {
		t.Errorf("got %v", err)
	}
}

// The window as a process of its own, killed at a step.
type victim struct {
	Host, Dir, Step string
	Nth             int    // 0 means the first time
	Kill            string // agent, guard or both; "" means agent, and that there is no guard
	Members         []freeze.Member
}

func beVictim(input string) error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	var v victim
	if err := json.Unmarshal([]byte(input), &v); err != nil {
		return err
	}
	e, err := workload.Connect(ctx, v.Host)
	if err != nil {
		return err
	}
	var seen atomic.Int64
	o := freeze.Options{Dir: v.Dir, Deadline: deadline, Engine: e, EngineHost: v.Host, Guard: v.Kill != "", Fault: func(step string) {
		if step == v.Step && seen.Add(1) == int64(max(1, v.Nth)) {
			v.die()
		}
	}}
	w, err := freeze.Prepare(ctx, v.Members, o)
	if err != nil {
		return err
	}
	if _, err := w.Run(func() error { return nil }); err != nil {
		return errors.Join(err, w.Close())
	}
	return w.Close()
}

// deadline of the windows that are killed.
const deadline = 20 * time.Second

func (v victim) die() {
	if v.Kill == "guard" || v.Kill == "both" {
		for _, pid := range guards() {
			_ = unix.Kill(pid, unix.SIGKILL)
		}
		for len(guards()) > 0 {
			time.Sleep(time.Millisecond)
		}
	}
	if v.Kill == "guard" {
		return
	}
	_ = unix.Kill(os.Getpid(), unix.SIGKILL)
	select {}
}

// guards are the living ones of this process.
func guards() []int {
	var out []int
	names, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, name := range names {
		stat, _ := os.ReadFile(name)
		fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
		args, _ := os.ReadFile(filepath.Join(filepath.Dir(name), "cmdline"))
		if len(fields) < 2 || fields[0] == "Z" || fields[1] != strconv.Itoa(os.Getpid()) || !bytes.HasPrefix(args, []byte("snapd-guard\x00")) {
			continue
		}
		if pid, err := strconv.Atoi(filepath.Base(filepath.Dir(name))); err == nil {
			out = append(out, pid)
		}
	}
	return out
}

func TestKilledWithContainers(t *testing.T) {
	e := connect(t)
	for _, pause := range []bool{false, true} {
		a, b := start(t, e, dockertest.Spec{Name: fmt.Sprintf("kill-a-%t", pause)}), start(t, e, dockertest.Spec{Name: fmt.Sprintf("kill-b-%t", pause)})
		a.Pause, b.Pause = pause, pause
		for _, step := range freeze.Steps() {
			t.Run(fmt.Sprintf("pause=%t/%s", pause, step), func(t *testing.T) {
				v := victim{Host: docker.Host, Dir: t.TempDir(), Step: step, Members: []freeze.Member{a, b}}
				input, err := json.Marshal(v)
				if err != nil {
					t.Fatal(err)
				}
				cmd := exec.Command("/proc/self/exe")
				cmd.Env = append(os.Environ(), envVictim+"="+string(input))
				out, err := cmd.CombinedOutput()
				if err == nil || err.Error() != "signal: killed" {
					t.Fatalf("not killed: %v: %s", err, out)
				}
				if step == freeze.StepFrozen && pause {
					if _, err := freeze.Recover(t.Context(), freeze.Options{Dir: v.Dir}); err == nil {
						t.Error("paused containers were recovered without an engine")
					}
				}
				got, err := freeze.Recover(t.Context(), freeze.Options{Dir: v.Dir, Engine: e})
				if err != nil {
					t.Fatal(err)
				}
				if step == freeze.StepFrozen && (len(got) != 2 || got[0].Outcome != freeze.Thawed || got[1].Outcome != freeze.Thawed) {
					t.Errorf("got %+v", got)
				}
				for _, m := range v.Members {
					running, paused, err := e.State(t.Context(), m.ID)
					events, readErr := os.ReadFile(filepath.Join(m.Cgroup, "cgroup.events"))
					if err != nil || readErr != nil || !running || paused || strings.Contains(string(events), "frozen 1") {
						t.Errorf("%s: running %t, paused %t, %s, %v, %v", m.Name, running, paused, events, err, readErr)
					}
				}
				if left, _ := filepath.Glob(v.Dir + "/*"); len(left) > 0 {
					t.Errorf("left %v", left)
				}
			})
		}
	}
}

// The engine's process is stopped in the middle: cgroups do not need it.
func TestEngineHangsInTheWindow(t *testing.T) {
	e := connect(t)
	m := start(t, e, dockertest.Spec{Name: "engine-hangs"})
	o := freeze.Options{Dir: t.TempDir(), Deadline: 5 * time.Second, Engine: e}
	_, _, err := window(t, o, []freeze.Member{m}, docker.Suspend)
	if err := docker.Resume(); err != nil {
		t.Fatal(err)
	}
	if err != nil {
		t.Error(err)
	}
}

// Pausing goes through an engine that hangs for longer than the window may
// last: the container is thawed when the engine comes back.
func TestEngineHangsWhilePausing(t *testing.T) {
	e := connect(t)
	m := start(t, e, dockertest.Spec{Name: "pause-hangs"})
	m.Pause = true
	o := freeze.Options{Dir: t.TempDir(), Deadline: 200 * time.Millisecond, Engine: e}
	w, err := freeze.Prepare(t.Context(), []freeze.Member{m}, o)
	if err != nil {
		t.Fatal(err)
	}
	if err := docker.Suspend(); err != nil {
		t.Fatal(err)
	}
	timer := time.AfterFunc(time.Second, func() { _ = docker.Resume() })
	defer timer.Stop()
	_, err = w.Run(func() error { t.Error("take was called"); return nil })
	var overrun *freeze.Overrun
	if !errors.As(err, &overrun) || len(overrun.Waiting) != 1 {
		t.Errorf("got %v", err)
	}
	if err := w.Close(); err != nil {
		t.Error(err)
	}
	if running, paused, err := e.State(t.Context(), m.ID); err != nil || !running || paused {
		t.Errorf("running %t, paused %t, %v", running, paused, err)
	}
}

func TestHealthIsNotTouched(t *testing.T) {
	e := connect(t)
	m := start(t, e, dockertest.Spec{Name: "healthy", Change: func(c *apicontainer.Config, _ *apicontainer.HostConfig) {
		c.Healthcheck = &apicontainer.HealthConfig{Test: []string{"CMD", "/bin/true"}, Interval: 100 * time.Millisecond, Timeout: 5 * time.Second, Retries: 2}
	}})
	health := func() string {
		in, err := docker.API.ContainerInspect(t.Context(), m.ID)
		if err != nil {
			t.Fatal(err)
		}
		return in.State.Health.Status
	}
	eventually(t, "it is healthy", func() bool { return health() == "healthy" })
	o := freeze.Options{Dir: t.TempDir(), Deadline: 5 * time.Second, Engine: e}
	o.Guard = true
	for range 20 {
		if _, _, err := window(t, o, []freeze.Member{m}, func() error { time.Sleep(30 * time.Millisecond); return nil }); err != nil {
			t.Fatal(err)
		}
		if got := health(); got != "healthy" {
			t.Fatalf("after a window it is %s", got)
		}
	}
}
