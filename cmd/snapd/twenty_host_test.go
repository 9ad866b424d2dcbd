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
	"strconv"
	"strings"
	"testing"
	"time"

	"snapd/internal/point"
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

// deadRepository is on a server that is gone. It is tried again for longer than
// all else needs on a machine that has nothing else to do.
func (h *twentyGroups) deadRepository(t *testing.T, group string) {
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err == nil {
		err = l.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(h.path("snapd.toml"))
	if err != nil {
		t.Fatal(err)
	}
	keys := bytes.Join(regexp.MustCompile(`(?m)^(recipients|signing-key-file) = .*$`).FindAll(text, -1), []byte("\n"))
	h.configure(fmt.Sprintf("[repository.away]\nurl = \"s3://backups/host1\"\nendpoint = \"http://%s\"\nretry-for = \"8s\"\n%s", l.Addr(), keys))
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
	whole, sound time.Duration // sound: until the points of the sound groups were taken and shipped
	taken        int           // how many of these there are
	status       int
}

func (h *twentyGroups) timed(t *testing.T, groups ...string) took {
	t.Helper()
	begun := time.Now()
	_, _, status := h.snapd(append([]string{"run"}, groups...)...)
	x := took{whole: time.Since(begun), status: status}
	files, err := filepath.Glob(h.path("state/points/*.json"))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		info, err := os.Stat(f)
		if err != nil {
			t.Fatal(err)
		}
		text, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		var p point.Point
		if err := json.Unmarshal(text, &p); err != nil {
			t.Fatal(err)
		}
		if p.Time.After(begun) && slices.Contains(h.sound, p.Group) && p.InRepository("main") {
			x.taken++
			x.sound = max(x.sound, info.ModTime().Sub(begun)) // it is written last when it is shipped
		}
	}
	return x
}

// TestTwentyGroupsOfWhichSevenAreOdd: the thirteen are taken and shipped as if they
// were alone, and status says in seven lines what is wrong with whom. On a machine
// that has nothing else to do, SNAPD_TWENTY_ROUNDS=5 measures; SNAPD_BEFORE=DIR has
// another program, DIR/snapd, show what it does on this host.
func TestTwentyGroupsOfWhichSevenAreOdd(t *testing.T) {
	if dir := os.Getenv("SNAPD_BEFORE"); dir != "" {
		t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
		newTwenty(t).before(t)
		return
	}
	h := newTwenty(t)
	watch := time.AfterFunc(3*time.Minute, func() { _ = h.fuse.Close() }) // so that a failure ends too
	defer watch.Stop()
	h.timed(t, h.sound...)
	rounds := 1
	if n, err := strconv.Atoi(os.Getenv("SNAPD_TWENTY_ROUNDS")); err == nil {
		rounds = n
	}
	var alone, all []time.Duration
	for range rounds {
		x, y := h.timed(t, h.sound...), h.timed(t, slices.Concat(h.odd, h.sound)...)
		alone, all = append(alone, x.sound), append(all, y.sound)
		t.Logf("the thirteen alone: %v, with the odd ones: %v; the whole call %v and %v", x.sound, y.sound, x.whole, y.whole)
		if x.taken != 13 || y.taken != 13 || x.status != 0 || y.status != exitPartial {
			t.Errorf("%d points alone, exit status %d; %d of all, exit status %d", x.taken, x.status, y.taken, y.status)
		}
	}
	slices.Sort(alone)
	slices.Sort(all)
	t.Logf("medians: %v and %v, %.2f times", alone[rounds/2], all[rounds/2], all[rounds/2].Seconds()/alone[rounds/2].Seconds())
	// What else runs on this machine may take more than the odd groups do. That none
	// waits for them is shown where it does not depend on time:
	// TestARepositoryThatDoesNotAnswerHoldsUpItsOwnGroupsOnly.
	if all[0] > 2*alone[rounds-1]+10*time.Second {
		t.Error("the sound groups wait for the odd ones")
	}
	h.must("verify", "--repository", "main")
	h.seven(t)
	h.remedies(t)
}

// before shows what another program says of this host, without one more of the odd
// groups each time, since one was enough to keep all others back.
func (h *twentyGroups) before(t *testing.T) {
	for _, without := range []string{"", "mailer", "wiki", "ftp"} {
		if without != "" {
			if err := h.docker.Remove(t.Context(), without); err != nil {
				t.Fatal(err)
			}
			h.odd = slices.DeleteFunc(h.odd, func(name string) bool { return name == without })
		}
		watch := time.AfterFunc(time.Minute, func() { _ = h.fuse.Close() })
		x := h.timed(t, slices.Concat(h.odd, h.sound)...)
		t.Logf("without %q: %d of the thirteen; the call took %v", without, x.taken, x.whole)
		for _, command := range []string{"status", "doctor"} {
			begun := time.Now()
			h.snapd(command)
			t.Logf("%s took %v", command, time.Since(begun))
		}
		watch.Stop()
	}
}

// seven lines of status say what is wrong with whom, the gravest first.
func (h *twentyGroups) seven(t *testing.T) {
	want := []struct{ group, says string }{
		{"archive", "old disk/archive does not exist"},
		{"ftp", "which a program makes up"},
		{"mailer", "is not in a cgroup of that container"},
		{"swapped", "the kernel swaps to"},
		{"wiki", "snapd.keep: no such label"},
		{"remote", "not shipped: the last"},
		{"builder", "is started again and again"},
	}
	fastest := time.Hour
	var lines []string
	for range 3 { // whatever else this machine does
		begun := time.Now()
		out := h.must("status")
		fastest = min(fastest, time.Since(begun))
		lines = regexp.MustCompile(`(?m)^(ATTENTION|[a-z0-9-]+): .*$`).FindAllString(out, -1)
	}
	t.Logf("status takes %v", fastest)
	if fastest > 2*time.Second {
		t.Errorf("status takes %v", fastest)
	}
	if len(lines) != len(want) {
		t.Fatalf("%d lines, want %d:\n%s", len(lines), len(want), strings.Join(lines, "\n"))
	}
	for i, w := range want {
		if !strings.HasPrefix(lines[i], w.group+": ") || !strings.Contains(lines[i], w.says) || len(lines[i]) > 700 {
			t.Errorf("line %d, want %s: … %s …:\n%s", i+1, w.group, w.says, lines[i])
		}
	}
}

// remedies are what doctor says to do about each.
func (h *twentyGroups) remedies(t *testing.T) {
	h.snapd("doctor") // as a user reads it
	out, _, _ := h.snapd("--json", "doctor")
	var doc struct {
		Checks []struct {
			Check, Why, Do string
			OK             bool
		}
	}
	if err := json.Unmarshal([]byte(out), &doc); err != nil {
		t.Fatal(err)
	}
	told := map[string]int{}
	for _, c := range doc.Checks {
		for _, name := range append(slices.Clone(h.sound), h.odd...) {
			if about := c.Check == "group "+name || c.Check == "labels" && strings.Contains(c.Why, "container "+name+":"); about && !c.OK {
				told[name]++
				if c.Do == "" {
					t.Errorf("nothing to do about %+v", c)
				}
			}
		}
		if c.Check == "repository away" && !c.OK && c.Do != "" {
			told["remote"]++
		}
	}
	for _, name := range h.odd {
		if told[name] != 1 {
			t.Errorf("doctor says %d things of %s", told[name], name)
		}
		delete(told, name)
	}
	if len(told) > 0 {
		t.Errorf("doctor blames %v", told)
	}
}
