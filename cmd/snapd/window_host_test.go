//go:build host

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"snapd/internal/agent"
	"snapd/internal/freeze"
	"snapd/internal/point"
	"snapd/internal/workload"
	"snapd/internal/workload/dockertest"
)

const writes = "while :; do echo x >> /data/log; done"

// shop runs two containers of one project, each on a subvolume of its own.
func shop(t *testing.T, h *host, docker *dockertest.Docker) (data []string) {
	t.Helper()
	for _, name := range []string{"front", "base"} {
		labels := map[string]string{"com.docker.compose.project": "shop", "com.docker.compose.service": name}
		if name == "front" {
			labels["com.docker.compose.depends_on"] = "base:service_started:false"
		}
		data = append(data, h.subvolume(name))
		if _, err := docker.Run(t.Context(), dockertest.Spec{
			Name: name, Labels: labels, Mounts: []dockertest.Mount{{Source: filepath.Join(h.btrfs, name), Target: "/data"}},
			Cmd: []string{"sh", "-c", writes}, Signal: "SIGKILL",
		}); err != nil {
			t.Fatal(err)
		}
	}
	return data
}

func (h *host) inProcess(docker *dockertest.Docker, fault func(string)) *agent.Agent {
	h.t.Helper()
	return inProcess(h.t, &where{config: h.path("snapd.toml"), state: h.path("state"), runDir: h.path("run")}, fault,
		func(ctx context.Context) (*workload.Engine, error) { return workload.Connect(ctx, docker.Host) })
}

// The window of a group as a user has it: stopped in order, refused for what
// cannot be started again, and honest about containers that were started in the
// middle.
func TestWindowOfAGroup(t *testing.T) {
	h := newHost(t, "")
	docker := startDocker(t, h)
	data := shop(t, h, docker)
	h.configure("[group.shop]\ncompose-project = \"shop\"\nfreeze = \"stop\"\nmax-window = \"20s\"\n[group.loose]\ncontainers = [\"loose\"]\nfreeze = \"stop\"\n[group.one]\ncontainers = [\"front\"]\nfreeze = \"freeze\"")
	loose, err := docker.Run(t.Context(), dockertest.Spec{
		Name: "loose", Mounts: []dockertest.Mount{{Source: h.subvolume("loose"), Target: "/data"}},
		Once: true,
	})
	if err != nil {
		t.Fatal(err)
	}

	p := h.points("snapshot", "shop")[0]
	if p.Consistency != point.Stopped || len(p.Members) != 2 || p.Members[0] != (point.Member{Kind: "container", Name: "front", How: "stop"}) {
		t.Errorf("%s, %v", p.Consistency, p.Members)
	}
	if p.MaxWindowUS != 20_000_000 || p.WindowUS == 0 || p.WindowUS > p.MaxWindowUS {
		t.Errorf("asked for %d µs, got %d", p.MaxWindowUS, p.WindowUS)
	}
	for _, dir := range data {
		before := fileSize(t, filepath.Join(dir, "log"))
		until(t, "it writes again", func() bool { return fileSize(t, filepath.Join(dir, "log")) > before })
	}
	h.refused(1, []string{"snapshot", "loose"}, "container loose was started with --rm", `set freeze to "freeze"`)
	if in, err := docker.API.ContainerInspect(t.Context(), loose); err != nil || !in.State.Running {
		t.Errorf("a refusal touched it: %v", err)
	}

	t.Run("started in the middle", func(t *testing.T) { startedInTheMiddle(t, h, docker, data) })
	t.Run("left over", func(t *testing.T) { leftOver(t, h, docker) })
}

func startedInTheMiddle(t *testing.T, h *host, docker *dockertest.Docker, data []string) {
	t.Helper()
	late, err := docker.Create(t.Context(), dockertest.Spec{
		Name: "late", Mounts: []dockertest.Mount{{Source: data[0], Target: "/data"}}, Cmd: []string{"sh", "-c", writes},
		Signal: "SIGKILL",
	})
	if err != nil {
		t.Fatal(err)
	}
	begin := func(step string) {
		if step != freeze.StepFrozen {
			return
		}
		if err := docker.Begin(context.Background(), late); err != nil {
			t.Error(err)
		}
	}
	points, err := h.inProcess(docker, begin).Snapshot(t.Context(), []string{"shop"})
	if err == nil || !strings.Contains(err.Error(), "container late was started while") || !strings.Contains(whatToDo(err), "again") || len(points) != 0 {
		t.Errorf("over two domains: %d points, %v", len(points), err)
	}
	if err := docker.End(t.Context(), late); err != nil {
		t.Fatal(err)
	}
	points, err = h.inProcess(docker, begin).Snapshot(t.Context(), []string{"one"})
	if err != nil || len(points) != 1 || points[0].Consistency != point.Crash || !strings.Contains(strings.Join(points[0].Warnings, " "), "container late was started while") {
		t.Errorf("in one domain: %d points, %v", len(points), err)
	}
	if err := docker.Remove(t.Context(), late); err != nil {
		t.Fatal(err)
	}
	points, err = h.inProcess(docker, nil).Snapshot(t.Context(), []string{"one"})
	if err != nil || len(points) != 1 || points[0].Consistency != point.Frozen || len(points[0].Warnings) != 0 {
		t.Errorf("without: %d points, %v", len(points), err)
	}
}

// leftOver makes what a kill of agent and guard leaves, and then runs any
// command at all.
func leftOver(t *testing.T, h *host, docker *dockertest.Docker) {
	t.Helper()
	e, err := workload.Connect(t.Context(), docker.Host)
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	all, err := e.Containers(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var m freeze.Member
	for _, c := range all {
		if c.Name == "base" {
			m = freeze.Member{Kind: freeze.Container, ID: c.ID, Name: c.Name, Cgroup: c.Cgroup, Pid: c.Pid}
		}
	}
	elsewhere := t.TempDir()
	w, err := freeze.Prepare(t.Context(), []freeze.Member{m}, freeze.Options{Dir: elsewhere, Deadline: 5 * time.Second, Engine: e})
	if err != nil {
		t.Fatal(err)
	}
	_, err = w.Run(func() error {
		journals, err := filepath.Glob(elsewhere + "/window-*")
		if err != nil || len(journals) != 1 {
			return fmt.Errorf("%v, %w", journals, err)
		}
		text, err := os.ReadFile(journals[0])
		return errors.Join(err, os.WriteFile(h.path("run/window-1-0"), text, 0o600))
	})
	if err = errors.Join(err, w.Close()); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(m.Cgroup, "cgroup.freeze"), []byte("1"), 0); err != nil {
		t.Fatal(err)
	}
	h.refused(0, []string{"version"}, "a killed snapd had left container base frozen", "thawed")
	if on, _ := os.ReadFile(filepath.Join(m.Cgroup, "cgroup.freeze")); string(on) != "0\n" {
		t.Errorf("after any command at all it is still frozen: %q", on)
	}
	if _, err := os.Stat(h.path("run/window-1-0")); !os.IsNotExist(err) {
		t.Errorf("the journal is still there: %v", err)
	}

	// One that no command can recover is named by doctor and status until it is gone.
	if err := os.WriteFile(h.path("run/window-1-0"), []byte("nonsense"), 0o600); err != nil {
		t.Fatal(err)
	}
	if out := h.must("status"); !strings.Contains(out, "ATTENTION: "+h.path("run/window-1-0")) {
		t.Errorf("status does not say so: %s", out)
	}
	if out, _, status := h.snapd("doctor"); status != 1 || !strings.Contains(out, "window-1-0 is not a journal") {
		t.Errorf("doctor does not say so: %s", out)
	}
	if err := os.Remove(h.path("run/window-1-0")); err != nil {
		t.Fatal(err)
	}
}

func fileSize(t *testing.T, name string) int64 {
	t.Helper()
	st, err := os.Stat(name)
	if err != nil {
		t.Fatal(err)
	}
	return st.Size()
}

func until(t *testing.T, what string, is func() bool) {
	t.Helper()
	for end := time.Now().Add(15 * time.Second); !is(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("after 15 s it is still not so that %s", what)
		}
	}
}
