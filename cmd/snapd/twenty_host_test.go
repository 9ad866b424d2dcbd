//go:build host

package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"snapd/internal/point"
	"snapd/internal/proc"
	"snapd/internal/workload/dockertest"

	"golang.org/x/sys/unix"
)

// twentyGroups are on a host of which seven groups are odd in seven ways.
type twentyGroups struct {
	*host
	docker *dockertest.Docker
	sound  []string
	odd    []string
	fuse   *dockertest.Fuse
}

func (h *twentyGroups) container(t *testing.T, group string, s dockertest.Spec) {
	t.Helper()
	s.Name, s.Signal = group, "SIGKILL"
	s.Mounts = append(s.Mounts, dockertest.Mount{Source: h.subvolume(group), Target: "/data"})
	h.run(t, h.docker, s)
}

func (h *twentyGroups) group(name, repository, lies string) {
	h.t.Helper()
	h.configure(fmt.Sprintf("[group.%s]\nrepositories = [%q]\n%s", name, repository, lies))
}

func newTwenty(t *testing.T) *twentyGroups {
	t.Helper()
	t.Setenv("AWS_ACCESS_KEY_ID", "x")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "y")
	h := &twentyGroups{host: newHost(t, "")}
	if err := os.MkdirAll(h.path("run"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("run", h.path("run"), "tmpfs", 0, "mode=700"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(h.path("run"), unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	h.docker = startDocker(t, h.host)
	for i := range 13 {
		name := fmt.Sprintf("shop-%02d", i+1)
		h.container(t, name, dockertest.Spec{Cmd: []string{"sh", "-c", "while :; do echo x >> /data/log; sleep 1; done"}})
		h.group(name, "main", fmt.Sprintf("containers = [%q]", name))
		h.sound = append(h.sound, name)
	}
	h.odd = []string{"archive", "builder", "ftp", "mailer", "remote", "swapped", "wiki"}
	h.missingDisk(t, "archive")
	h.crashLoop(t, "builder")
	h.hangingMount(t, "ftp")
	h.oddCgroup(t, "mailer")
	h.deadRepository(t, "remote")
	h.swapFile(t, "swapped")
	h.container(t, "wiki", dockertest.Spec{Labels: map[string]string{"snapd.enable": "true", "snapd.group": "wiki", "snapd.keep": "24 hours"}})
	return h
}

// missingDisk is a disk that was there when the last restore point was taken.
func (h *twentyGroups) missingDisk(t *testing.T, group string) {
	at := h.path("old disk")
	if err := os.Mkdir(at, 0o755); err != nil {
		t.Fatal(err)
	}
	image := h.path("old disk.img")
	command(t, "truncate", "-s", "256M", image)
	command(t, "mkfs.btrfs", "-q", image)
	command(t, "mount", "-o", "loop", image, at)
	command(t, "btrfs", "subvolume", "create", filepath.Join(at, "archive"))
	h.group(group, "main", fmt.Sprintf("paths = [%q]", filepath.Join(at, "archive")))
	h.points("run", group)
	command(t, "umount", at)
}

func (h *twentyGroups) crashLoop(t *testing.T, group string) {
	h.container(t, group, dockertest.Spec{Cmd: []string{"/bin/sh", "-c", "exit 1"}, Change: dockertest.StartedAgain})
	h.group(group, "main", fmt.Sprintf("containers = [%q]", group))
	until(t, "the engine waits for longer from start to start", func() bool {
		in, err := h.docker.API.ContainerInspect(t.Context(), group)
		return err == nil && in.State.Restarting && in.RestartCount >= 5
	})
}

// hangingMount is a filesystem of a program that does not answer any more.
func (h *twentyGroups) hangingMount(t *testing.T, group string) {
	dir := h.path("remote files")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	var err error
	if h.fuse, err = dockertest.MountFuse(dir); err != nil {
		t.Fatal(err)
	}
	h.container(t, group, dockertest.Spec{Mounts: []dockertest.Mount{{Source: dir, Target: "/away"}}})
	h.group(group, "main", fmt.Sprintf("containers = [%q]", group))
	h.fuse.Hang()
	t.Cleanup(func() { _ = h.fuse.Close() })
}

// oddCgroup is a container whose process left its cgroup.
func (h *twentyGroups) oddCgroup(t *testing.T, group string) {
	h.container(t, group, dockertest.Spec{})
	h.group(group, "main", fmt.Sprintf("containers = [%q]", group))
	in, err := h.docker.API.ContainerInspect(t.Context(), group)
	if err != nil {
		t.Fatal(err)
	}
	leaveCgroups(t, in.State.Pid)
}

// deadRepository is a server that accepts calls and never answers them.
func (h *twentyGroups) deadRepository(t *testing.T, group string) {
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	text, err := os.ReadFile(h.path("snapd.toml"))
	if err != nil {
		t.Fatal(err)
	}
	keys := bytes.Join(regexp.MustCompile(`(?m)^(recipients|signing-key-file) = .*$`).FindAll(text, -1), []byte("\n"))
	h.configure(fmt.Sprintf("[repository.away]\nurl = \"s3://backups/host1\"\nendpoint = \"http://%s\"\nretry-for = \"20s\"\n%s", l.Addr(), keys))
	h.container(t, group, dockertest.Spec{})
	h.group(group, "away", fmt.Sprintf("containers = [%q]", group))
}

func (h *twentyGroups) swapFile(t *testing.T, group string) {
	file := filepath.Join(h.subvolume(group), "swap file")
	h.group(group, "main", fmt.Sprintf("paths = [%q]", filepath.Dir(file)))
	command(t, "btrfs", "filesystem", "mkswapfile", "--size", "16m", file)
	command(t, "swapon", file)
	t.Cleanup(func() {
		if err := exec.Command("swapoff", file).Run(); err != nil {
			t.Errorf("swapoff: %v", err)
		}
	})
}

// took is what one run of groups took.
type took struct {
	whole time.Duration // the call
	sound time.Duration // until the restore points of the sound groups were taken and shipped
	taken int           // how many of these there are
	says  string
}

func (h *twentyGroups) timed(t *testing.T, words ...string) took {
	t.Helper()
	begun := time.Now()
	out, errs, status := h.snapd(words...)
	x := took{whole: time.Since(begun), says: fmt.Sprintf("%s%s[%d]", out, errs, status)}
	files, err := filepath.Glob(h.path("state/points/*.json"))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		var p point.Point
		if err := json.Unmarshal(text, &p); err != nil {
			t.Fatal(err)
		}
		if p.Time.Before(begun) || !slices.Contains(h.sound, p.Group) || !p.InRepository("main") {
			continue
		}
		info, err := os.Stat(f)
		if err != nil {
			t.Fatal(err)
		}
		x.taken++
		x.sound = max(x.sound, info.ModTime().Sub(begun)) // when it was last written: shipped
	}
	return x
}

func TestTwentyGroupsOfWhichSevenAreOdd(t *testing.T) {
	h := newTwenty(t)
	watch := time.AfterFunc(4*time.Minute, func() { _ = h.fuse.Close() }) // so that a failure ends too
	defer watch.Stop()
	h.must("run", h.sound[0])
	for range 3 {
		alone := h.timed(t, append([]string{"run"}, h.sound...)...)
		all := h.timed(t, append([]string{"run"}, slices.Concat(h.odd, h.sound)...)...)
		t.Logf("alone %v (whole %v), of twenty %v (whole %v): %.2f; %d and %d points", alone.sound, alone.whole, all.sound, all.whole, all.sound.Seconds()/alone.sound.Seconds(), alone.taken, all.taken)
	}
	h.snapd("verify")
	begun := time.Now()
	h.snapd("status")
	t.Logf("status took %v", time.Since(begun))
	begun = time.Now()
	h.snapd("doctor")
	t.Logf("doctor took %v", time.Since(begun))
}

var _ = strings.Contains
var _ = proc.Own
var _ = unix.Kill
