//go:build host

package workload_test

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"snapd/internal/config"
	"snapd/internal/workload"
	"snapd/internal/workload/dockertest"

	apicontainer "github.com/docker/docker/api/types/container"
)

func TestConnectWithoutAnEngine(t *testing.T) {
	dir := t.TempDir()
	dead := filepath.Join(dir, "dead.sock")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: dead, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	for _, socket := range []string{filepath.Join(dir, "none.sock"), dead} {
		if _, err := workload.Connect(t.Context(), "unix://"+socket); !errors.Is(err, workload.ErrNoEngine) {
			t.Errorf("%s: %v", socket, err)
		}
	}
	if _, err := workload.Connect(t.Context(), "tcp://127.0.0.1:2375"); !errors.Is(err, workload.ErrUnsupported) {
		t.Errorf("an engine that may be elsewhere: %v", err)
	}
}

// A listener that never answers is an engine that hangs.
func TestEngineThatHangs(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	start := time.Now()
	_, err = workload.Connect(t.Context(), "unix://"+socket, workload.WithTimeout(50*time.Millisecond))
	if !errors.Is(err, workload.ErrHangs) || !strings.Contains(err.Error(), "within 50ms") {
		t.Errorf("got %v", err)
	}
	if took := time.Since(start); took > 2*time.Second {
		t.Errorf("took %v", took)
	}
}

// relay passes bytes on to the real engine until it is told to swallow them.
func TestEngineThatHangsLater(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	hang := make(chan struct{})
	go relay(l, strings.TrimPrefix(docker.Host, "unix://"), hang)
	e, err := workload.Connect(t.Context(), "unix://"+socket, workload.WithTimeout(5*time.Second))
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	if _, err := e.Containers(t.Context()); err != nil {
		t.Fatal(err)
	}
	close(hang)
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if _, err := e.Containers(ctx); !errors.Is(err, workload.ErrHangs) {
		t.Errorf("list: %v", err)
	}
	if err := e.Pause(ctx, "x"); !errors.Is(err, workload.ErrHangs) {
		t.Errorf("pause: %v", err)
	}
	if _, _, err := e.State(ctx, "x"); !errors.Is(err, workload.ErrHangs) {
		t.Errorf("state: %v", err)
	}
	_ = l.Close()
}

func relay(l net.Listener, to string, hang chan struct{}) {
	for {
		from, err := l.Accept()
		if err != nil {
			return
		}
		engine, err := net.Dial("unix", to)
		if err != nil {
			return
		}
		pass := func(dst, src net.Conn) {
			buf := make([]byte, 4096)
			for {
				n, err := src.Read(buf)
				select {
				case <-hang:
					continue
				default:
				}
				if err != nil {
					_ = dst.Close()
					return
				}
				_, _ = dst.Write(buf[:n])
			}
		}
		go pass(from, engine)
		go pass(engine, from)
	}
}

func TestContainers(t *testing.T) {
	e := connect(t)
	dir := t.TempDir()
	if err := docker.Import(t.Context(), "labelled:1", "LABEL snapd.enable=true", "LABEL from=image"); err != nil {
		t.Fatal(err)
	}
	if err := docker.BindVolume(t.Context(), "bound", dir); err != nil {
		t.Fatal(err)
	}
	if err := docker.Volume(t.Context(), "share", map[string]string{"type": "nfs", "o": "addr=127.0.0.1", "device": ":/x"}); err != nil {
		t.Fatal(err)
	}
	id := runContainer(t, dockertest.Spec{
		Name: "listed", Image: "labelled:1",
		Labels: map[string]string{"own": "1", "com.docker.compose.project": "shop", "com.docker.compose.service": "db", "com.docker.compose.depends_on": "cache:service_started:false"},
		Mounts: []dockertest.Mount{{Volume: "named", Target: "/a"}, {Volume: "bound", Target: "/b"}, {Source: dir, Target: "/c", ReadOnly: true}, {Target: "/d"}},
		Change: func(_ *apicontainer.Config, h *apicontainer.HostConfig) { h.Tmpfs = map[string]string{"/e": ""} },
	})
	idle, err := docker.Create(t.Context(), dockertest.Spec{Name: "idle", Mounts: []dockertest.Mount{{Volume: "share", Target: "/n"}}})
	if err != nil {
		t.Fatal(err)
	}
	removeLater(t, idle)

	c := container(t, e, id)
	if c.Name != "listed" || !c.Running || c.Paused || c.Pid == 0 || c.Image != "labelled:1" {
		t.Errorf("got %+v", c)
	}
	if c.Project != "shop" || c.Service != "db" || !slices.Equal(c.DependsOn, []string{"cache"}) {
		t.Errorf("compose: %q %q %q", c.Project, c.Service, c.DependsOn)
	}
	if c.ImageLabels["snapd.enable"] != "true" || c.Labels["own"] != "1" {
		t.Errorf("labels %v of image %v", c.Labels, c.ImageLabels)
	}
	if groups, _ := workload.Groups(&config.Config{}, []workload.Container{c}); len(groups) != 0 {
		t.Errorf("an image enrolled itself: %v", groups)
	}
	if !strings.HasSuffix(c.Cgroup, id) {
		t.Errorf("cgroup %s", c.Cgroup)
	}
	if _, err := os.Stat(filepath.Join(c.Cgroup, "cgroup.freeze")); err != nil {
		t.Error(err)
	}
	if !strings.Contains(string(c.Definition), `"Config"`) {
		t.Errorf("definition %.80s", c.Definition)
	}
	want := []workload.Mount{
		{Kind: "volume", Volume: "named", Driver: "local", Target: "/a", Writable: true},
		{Kind: "volume", Volume: "bound", Driver: "local", Target: "/b", Writable: true, Source: dir},
		{Kind: "bind", Source: dir, Target: "/c"},
		{Kind: "tmpfs", Target: "/d", Writable: true, FSType: "tmpfs"},
		{Kind: "tmpfs", Target: "/e", Writable: true, FSType: "tmpfs"},
	}
	for i, m := range c.Mounts {
		if m.Volume == "named" {
			m.Source = "" // in the engine's own directory
		}
		if i >= len(want) || m != want[i] {
			t.Errorf("mount %d: %+v", i, m)
		}
	}
	i := container(t, e, idle)
	if i.Running || i.Pid != 0 || i.Cgroup != "" || len(i.Mounts) != 1 || i.Mounts[0].FSType != "nfs" {
		t.Errorf("got %+v", i)
	}
}

func TestPauseAndState(t *testing.T) {
	e := connect(t)
	id := runContainer(t, dockertest.Spec{Name: "paused"})
	look := func(wantRunning, wantPaused bool) {
		t.Helper()
		running, paused, err := e.State(t.Context(), id)
		if err != nil || running != wantRunning || paused != wantPaused {
			t.Errorf("running %t, paused %t, %v", running, paused, err)
		}
	}
	look(true, false)
	if err := e.Pause(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	look(true, true)
	if c := container(t, e, id); !c.Paused {
		t.Error("the list does not know that it is paused")
	}
	if err := e.Unpause(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	look(true, false)
	if err := docker.Remove(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	look(false, false)
}
