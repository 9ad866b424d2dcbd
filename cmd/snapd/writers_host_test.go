//go:build host

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"snapd/internal/freeze"
	"snapd/internal/point"
	"snapd/internal/workload/dockertest"

	"golang.org/x/sys/unix"
)

// stamps makes files with increasing numbers in two directories, one after the
// other, until there is a file that says that it shall end. In two snapshots of one
// instant the highest ones are at most one apart. What else it writes makes one
// snapshot wait for the disk, so that two instants are seen to be two.
func stamps(a, b string) string {
	return fmt.Sprintf(`(while [ ! -e '%[1]s/end' ]; do dd if=/dev/zero of='%[1]s/fill' bs=1M count=16 conv=notrunc 2>/dev/null; done) &
n=1000000; while [ ! -e '%[1]s/end' ]; do echo $n > '%[1]s/stamps/'$n; echo $n > '%[2]s/stamps/'$n; n=$((n+1)); done; wait`, a, b)
}

const envNames = "SNAPD_TEST_NAMES" // two directories, with a colon between

// TestOnlyNames is a process of TestAPointIsNotCalledMoreThanItsWriterAllows. It makes
// stamps that are directories: it has no file open, and writes to none.
func TestOnlyNames(t *testing.T) {
	a, b, is := strings.Cut(os.Getenv(envNames), ":")
	if !is {
		return
	}
	for n := 1_000_000; ; n++ {
		if _, err := os.Lstat(a + "/end"); err == nil {
			return
		}
		for _, dir := range []string{a, b} {
			if err := os.Mkdir(dir+"/stamps/"+strconv.Itoa(n), 0o700); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// TestAPointIsNotCalledMoreThanItsWriterAllows has a writer in each place where
// one can be. What the point claims is compared with what the stamps in its two
// snapshots prove.
func TestAPointIsNotCalledMoreThanItsWriterAllows(t *testing.T) {
	w := newWriters(t)
	outside := func(m ...dockertest.Mount) func(*testing.T) {
		return func(t *testing.T) { w.container(t, "outsider", nil, m...) }
	}
	both := []dockertest.Mount{{Source: w.a, Target: "/a"}, {Source: w.b, Target: "/b"}}
	for _, c := range []struct {
		name  string
		group string
		start func(t *testing.T)
		fault string              // at which it is started, "" for before
		want  []point.Consistency // "": no point
		says  string
	}{
		{"a member", "db", func(t *testing.T) { w.inDB(t) }, "", []point.Consistency{point.Frozen}, ""},
		{"the same mounts", "db", outside(both...), "", []point.Consistency{point.Frozen}, "outsider was frozen too"},
		{"a higher mount", "db", outside(dockertest.Mount{Source: w.btrfs, Target: "/top"}), "", []point.Consistency{point.Frozen}, "outsider was frozen too"},
		{"a filesystem above", "db", outside(dockertest.Mount{Source: w.outer, Target: "/outer"}), "", []point.Consistency{point.Frozen}, "outsider was frozen too"},
		{"a lower mount", "db", outside(dockertest.Mount{Source: w.a + "/sub", Target: "/a/sub"}, dockertest.Mount{Source: w.b + "/sub", Target: "/b/sub"}), "", []point.Consistency{point.Frozen}, "outsider was frozen too"},
		{"one that must not be frozen", "db", func(t *testing.T) {
			w.container(t, "refuses", map[string]string{"snapd.freeze": "none"}, both...)
		}, "", []point.Consistency{point.Separate}, "refuses went on writing"},
		{"a joiner", "db", func(t *testing.T) { w.container(t, "joiner", nil, both...) }, freeze.StepOpen, []point.Consistency{""}, "container joiner was started while"},
		{"a job", "stop", func(t *testing.T) { w.job(t, "job") }, freeze.StepFrozen, []point.Consistency{""}, "container job was started while"},
		{"a process that keeps its files open", "db", func(t *testing.T) {
			w.process(t, fmt.Sprintf("exec 3<>'%s/sub/kept' 4<>'%s/sub/kept'; ", w.a, w.b)+stamps(w.a+"/sub", w.b+"/sub"))
		}, "", []point.Consistency{point.Separate}, "(sh)"},
		{"a process that opens them anew", "db", func(t *testing.T) { w.process(t, stamps(w.a+"/sub", w.b+"/sub")) }, "", []point.Consistency{point.Separate}, "process "},
		{"a process that only makes names", "db", func(t *testing.T) {
			w.process(t, fmt.Sprintf("exec env %s='%s/sub:%s/sub' '%s' -test.run='^TestOnlyNames$'", envNames, w.a, w.b, os.Args[0]))
		}, "", []point.Consistency{point.Separate}, "wrote to the group's files"},
		{"a filesystem in files", "db", func(t *testing.T) { w.inFiles(t) }, "", []point.Consistency{point.Separate}, "loop device /dev/loop"},
		{"a process and a stop", "stop", func(t *testing.T) { w.process(t, stamps(w.a+"/sub", w.b+"/sub")) }, "", []point.Consistency{point.Separate}, "process "},
		{"another engine", "db", func(t *testing.T) { w.otherEngine(t, both...) }, "", []point.Consistency{point.Separate}, "process "},
	} {
		t.Run(c.name, func(t *testing.T) {
			begun := false
			w.clear(t)
			begin := func(step string) {
				if step == c.fault && !begun {
					begun = true
					c.start(t)
				}
				if step == freeze.StepTaken && c.name == "a job" {
					w.end(t)
				}
			}
			begin("")
			points, err := w.inProcess(w.docker, begin).Snapshot(t.Context(), []string{c.group})
			text, got := "", point.Consistency("")
			if err != nil {
				text = err.Error()
			}
			for _, p := range points {
				text, got = text+p.Why+strings.Join(p.Warnings, " "), p.Consistency
				apart := w.apart(t, p)
				t.Logf("%s, %d apart: %s", p.Consistency, apart, text)
				if p.Consistency != point.Separate && apart > 1 {
					t.Errorf("WRONG CLAIM: the point is called %s, and its stamps are %d apart", p.Consistency, apart)
				}
			}
			if !slices.Contains(c.want, got) || !strings.Contains(text, c.says) {
				t.Errorf("got %q, want %q; it says %q, %v", got, c.want, text, err)
			}
		})
	}
}

// writers is a host with one container on two subvolumes.
type writers struct {
	*host
	docker      *dockertest.Docker
	a, b, outer string
}

func newWriters(t *testing.T) *writers {
	t.Helper()
	h := newHost(t, "")
	w := &writers{host: h, docker: startDocker(t, h), a: h.subvolume("data é a"), b: h.subvolume("data b"), outer: h.path("outer")}
	for i, dir := range []string{w.a, w.b} {
		if err := os.Mkdir(filepath.Join(dir, "sub"), 0o755); err != nil {
			t.Fatal(err)
		}
		at := filepath.Join(w.outer, []string{"a", "b"}[i])
		if err := os.MkdirAll(at, 0o755); err != nil {
			t.Fatal(err)
		}
		command(t, "mount", "--bind", dir, at)
		t.Cleanup(func() {
			if err := unix.Unmount(at, unix.MNT_DETACH); err != nil {
				t.Error(err)
			}
		})
	}
	h.configure("[group.db]\ncontainers = [\"db\"]\n[group.stop]\ncontainers = [\"db\"]\nfreeze = \"stop\"\nmax-window = \"60s\"")
	if _, err := w.docker.Run(t.Context(), dockertest.Spec{
		Name: "db", Signal: "SIGKILL", Mounts: []dockertest.Mount{{Source: w.a, Target: "/a"}, {Source: w.b, Target: "/b"}},
	}); err != nil {
		t.Fatal(err)
	}
	return w
}

// where is where a container has the two, by its mounts.
func (w *writers) where(mounts []dockertest.Mount) (a, b string) {
	switch mounts[0].Target {
	case "/top":
		return "/top/" + filepath.Base(w.a) + "/sub", "/top/" + filepath.Base(w.b) + "/sub"
	case "/outer":
		return "/outer/a/sub", "/outer/b/sub"
	}
	return "/a/sub", "/b/sub"
}

// container writes until the end of the test; it has begun when this returns.
func (w *writers) container(t *testing.T, name string, labels map[string]string, mounts ...dockertest.Mount) {
	t.Helper()
	a, b := w.where(mounts)
	id, err := w.docker.Run(context.Background(), dockertest.Spec{
		Name: name, Labels: labels, Mounts: mounts, Cmd: []string{"sh", "-c", stamps(a, b)}, Signal: "SIGKILL",
	})
	if err != nil {
		t.Error(err)
		return
	}
	t.Cleanup(func() {
		if err := w.docker.Remove(context.Background(), id); err != nil {
			t.Error(err)
		}
	})
	w.begun(t)
}

// job writes for a moment, and is gone then.
func (w *writers) job(t *testing.T, name string) {
	t.Helper()
	if _, err := w.docker.Run(context.Background(), dockertest.Spec{
		Name: name, Mounts: []dockertest.Mount{{Source: w.a, Target: "/a"}, {Source: w.b, Target: "/b"}}, Once: true,
		Cmd: []string{"sh", "-c", stamps("/a/sub", "/b/sub")},
	}); err != nil {
		t.Error(err)
		return
	}
	w.begun(t)
}

// inDB writes in the member, as what an exec has started there does.
func (w *writers) inDB(t *testing.T) {
	t.Helper()
	command(t, "docker", "-H", w.docker.Host, "exec", "-d", "db", "sh", "-c", stamps("/a/sub", "/b/sub"))
	w.begun(t)
}

// process writes outside of all containers.
func (w *writers) process(t *testing.T, script string) {
	t.Helper()
	cmd := exec.Command("sh", "-c", script)
	cmd.SysProcAttr = &unix.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		w.end(t) // what it has started too
		_ = unix.Kill(-cmd.Process.Pid, unix.SIGKILL)
		_ = cmd.Wait()
	})
	w.begun(t)
}

// inFiles writes to filesystems in files, as virtual machines and jails have them: no
// process has these files open. What is behind the stamps that it makes is a file.
func (w *writers) inFiles(t *testing.T) {
	t.Helper()
	for _, dir := range []string{w.a, w.b} {
		image, at := dir+"/sub/image", filepath.Join(t.TempDir(), "mounted")
		command(t, "truncate", "-s", "16M", image)
		command(t, "mkfs.ext4", "-q", image)
		command(t, "mkdir", at)
		command(t, "mount", "-o", "loop", image, at)
		t.Cleanup(func() {
			if err := errors.Join(unix.Unmount(at, 0), os.Remove(image)); err != nil {
				t.Error(err)
			}
		})
	}
}

// otherEngine writes in a container of an engine that the agent does not know.
func (w *writers) otherEngine(t *testing.T, mounts ...dockertest.Mount) {
	t.Helper()
	dir, err := os.MkdirTemp("", "sd")
	if err != nil {
		t.Fatal(err)
	}
	other, err := dockertest.Start(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := other.Stop(context.Background()); err != nil {
			t.Error(err)
		}
	})
	if err := other.ImportBusybox(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := other.Run(t.Context(), dockertest.Spec{Name: "other", Mounts: mounts, Cmd: []string{"sh", "-c", stamps("/a/sub", "/b/sub")}}); err != nil {
		t.Fatal(err)
	}
	w.begun(t)
}

// clear begins anew, and has the writer end with the test.
func (w *writers) clear(t *testing.T) {
	t.Helper()
	if err := os.RemoveAll(filepath.Join(w.a, "sub/end")); err != nil {
		t.Error(err)
	}
	t.Cleanup(func() { w.end(t) })
	for _, dir := range []string{w.a, w.b} {
		dir = filepath.Join(dir, "sub/stamps")
		if err := errors.Join(os.RemoveAll(dir), os.Mkdir(dir, 0o755)); err != nil {
			t.Error(err)
		}
	}
}

// end returns when nothing writes any more.
func (w *writers) end(t *testing.T) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(w.a, "sub/end"), nil, 0o600); err != nil {
		t.Error(err)
	}
	until(t, "it has ended", func() bool {
		before := highest(t, filepath.Join(w.b, "sub/stamps"))
		time.Sleep(30 * time.Millisecond)
		return highest(t, filepath.Join(w.b, "sub/stamps")) == before && !w.has("job")
	})
}

func (w *writers) has(name string) bool {
	_, err := w.docker.API.ContainerInspect(context.Background(), name)
	return err == nil
}

func (w *writers) begun(t *testing.T) {
	t.Helper()
	until(t, "it writes", func() bool { return highest(t, filepath.Join(w.b, "sub/stamps")) > 0 })
}

// highest is the highest number in a directory, 0 when there is none.
func highest(t *testing.T, dir string) int {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, e := range entries {
		i, err := strconv.Atoi(e.Name())
		if err != nil {
			t.Fatal(err)
		}
		n = max(n, i)
	}
	return n
}

// apart is how far the stamps in the snapshots of a point are apart.
func (w *writers) apart(t *testing.T, p point.Point) int {
	t.Helper()
	found, err := filepath.Glob(w.btrfs + "/.snapd-agent/*/" + p.Datasets[0].Snapshot + "/sub/stamps")
	if err != nil || len(found) != 2 {
		t.Fatalf("%d stamps, %v", len(found), err)
	}
	apart := highest(t, found[0]) - highest(t, found[1])
	return max(apart, -apart)
}
