//go:build host

package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"snapd/internal/agent"
	"snapd/internal/fs/fstest"
	"snapd/internal/point"
	"snapd/internal/workload/dockertest"

	"golang.org/x/sys/unix"
)

// host is a host of its own: a Btrfs on a loop file, directories for state, and
// a configuration. Commands run on it as a user types them.
type host struct {
	t     *testing.T
	dir   string
	btrfs string // where the Btrfs is mounted
	env   []string
}

func newHost(t *testing.T, repository string, flags ...string) *host {
	t.Helper()
	h := &host{t: t, dir: t.TempDir()}
	h.btrfs = mountBtrfs(t, filepath.Join(h.dir, "storage"), 8<<30)
	h.env = []string{"DOCKER_HOST=unix://" + h.dir + "/no-engine.sock"}
	if repository == "" {
		repository = "file://" + h.dir + "/repository"
	}
	h.must(append([]string{"init", "--repository", repository, "--kit", h.path("kit")}, flags...)...)
	return h
}

func (h *host) path(name string) string { return filepath.Join(h.dir, name) }

// args are the flags that keep a command on this host.
func (h *host) args(words []string) []string {
	return append([]string{"--config", h.path("snapd.toml"), "--state-dir", h.path("state"), "--run-dir", h.path("run")}, words...)
}

// snapd runs the program as another process and returns what it printed.
func (h *host) snapd(words ...string) (stdout, stderr string, status int) {
	h.t.Helper()
	// testscript has put snapd, which is this test's binary, into PATH.
	cmd := exec.CommandContext(h.t.Context(), "snapd", h.args(words)...)
	cmd.Env = append(os.Environ(), h.env...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	if err != nil && cmd.ProcessState == nil {
		h.t.Fatal(err)
	}
	h.t.Logf("$ snapd %s\n%s%s[exit status %d]", strings.Join(words, " "), &out, &errs, cmd.ProcessState.ExitCode())
	return out.String(), errs.String(), cmd.ProcessState.ExitCode()
}

func (h *host) must(words ...string) string {
	h.t.Helper()
	out, _, status := h.snapd(words...)
	if status != 0 {
		h.t.Fatalf("snapd %v: exit status %d", words, status)
	}
	return out
}

// refused runs a command that must fail with this status and say all of these.
func (h *host) refused(status int, words []string, says ...string) {
	h.t.Helper()
	_, errs, got := h.snapd(words...)
	if got != status {
		h.t.Errorf("snapd %v: exit status %d, want %d", words, got, status)
	}
	for _, s := range says {
		if !strings.Contains(errs, s) {
			h.t.Errorf("snapd %v does not say %q", words, s)
		}
	}
}

func (h *host) points(words ...string) []point.Point {
	h.t.Helper()
	var doc pointsDocument
	out := h.must(append([]string{"--json"}, words...)...)
	if err := json.Unmarshal([]byte(out), &doc); err != nil {
		h.t.Fatalf("%v in %s", err, out)
	}
	return doc.Points
}

// configure appends to the configuration.
func (h *host) configure(text string) {
	h.t.Helper()
	appendTo(h.t, h.path("snapd.toml"), "\n"+text+"\n")
}

func (h *host) subvolume(name string) string {
	h.t.Helper()
	dir := filepath.Join(h.btrfs, name)
	command(h.t, "btrfs", "subvolume", "create", dir)
	return dir
}

func command(t *testing.T, argv ...string) {
	t.Helper()
	if out, err := exec.CommandContext(t.Context(), argv[0], argv[1:]...).CombinedOutput(); err != nil {
		t.Fatalf("%v: %v\n%s", argv, err, out)
	}
}

func mountBtrfs(t *testing.T, at string, size int64) string {
	t.Helper()
	image := at + ".img"
	f, err := os.Create(image)
	if err == nil {
		err = f.Truncate(size)
	}
	if err == nil {
		err = f.Close()
	}
	if err == nil {
		err = os.Mkdir(at, 0o755)
	}
	if err != nil {
		t.Fatal(err)
	}
	command(t, "mkfs.btrfs", "-q", image)
	command(t, "mount", "-o", "loop", image, at)
	t.Cleanup(func() {
		if err := unix.Unmount(at, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return at
}

// TestNastyTreeThroughFullAndThreeIncrements is the whole way with everything
// that a filesystem can hold.
func TestNastyTreeThroughFullAndThreeIncrements(t *testing.T) {
	h := newHost(t, "")
	data := h.subvolume("my data é @1")
	h.configure(fmt.Sprintf("[group.nasty]\npaths = [%q]", data))
	fstest.WriteNastyTree(t, data)
	fstest.WriteBigFile(t, data, false)
	var want []fstest.Tree
	var ids []point.ID
	for step := range 4 {
		if step > 0 {
			fstest.ChangeNastyTree(t, data, step)
		}
		p := h.points("snapshot", "nasty", "--ship")[0]
		if p.Consistency != point.Crash || p.WindowUS != 0 {
			t.Errorf("one subvolume needs no window: %s, %d µs", p.Consistency, p.WindowUS)
		}
		if full := p.Shipped[0].Base == nil; full != (step == 0) {
			t.Errorf("point %d: full is %v: %s", step, full, p.Shipped[0].Why)
		}
		ids = append(ids, p.ID)
		want = append(want, fstest.ReadTree(t, data))
	}
	h.must("verify")
	h.must("--kit", h.path("kit"), "verify", "--deep")
	for step, id := range ids {
		target := filepath.Join(h.btrfs, fmt.Sprintf("restored %d", step))
		h.must("--kit", h.path("kit"), "restore", string(id), "--to", "btrfs:"+target)
		fstest.CompareTrees(t, want[step], fstest.ReadTree(t, target))
		if err := os.WriteFile(filepath.Join(target, "writable"), nil, 0o600); err != nil {
			t.Errorf("what was restored cannot be written: %v", err)
		}
	}
	h.must("--kit", h.path("kit"), "restore", string(ids[0]), "--to", "btrfs:"+filepath.Join(h.btrfs, "restored 0"), "--beside")
	h.must("--kit", h.path("kit"), "restore", string(ids[1]), "--to", "btrfs:"+filepath.Join(h.btrfs, "restored 0"), "--replace")
	fstest.CompareTrees(t, want[1], fstest.ReadTree(t, filepath.Join(h.btrfs, "restored 0")))
	h.must("restore", string(ids[3]), "--local", "--to", "btrfs:"+filepath.Join(h.btrfs, "from here"))
	fstest.CompareTrees(t, want[3], fstest.ReadTree(t, filepath.Join(h.btrfs, "from here")))
}

// TestContainersAreFrozenTogether has two containers with a volume each: two
// subvolumes are two instants, so both are frozen.
func TestContainersAreFrozenTogether(t *testing.T) {
	h := newHost(t, "")
	docker := startDocker(t, h)
	for _, name := range []string{"front", "base"} {
		labels := map[string]string{"com.docker.compose.project": "shop", "com.docker.compose.service": name}
		if name == "front" {
			labels["snapd.enable"] = "true"
			labels["com.docker.compose.depends_on"] = "base:service_started:false"
		}
		_, err := docker.Run(t.Context(), dockertest.Spec{
			Name: name, Labels: labels, Mounts: []dockertest.Mount{{Source: h.subvolume(name), Target: "/data"}},
			Cmd: []string{"sh", "-c", "while :; do echo x >> /data/log; done"},
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	p := h.points("run", "shop")[0]
	if p.Consistency != point.Frozen || p.WindowUS == 0 || len(p.Datasets) != 2 || len(p.Members) != 2 {
		t.Errorf("%s, window %d µs, %d datasets, members %v", p.Consistency, p.WindowUS, len(p.Datasets), p.Members)
	}
	if len(p.Members) == 2 && (p.Members[0].Name != "front" || p.Members[0].How != "cgroup") {
		t.Errorf("front ends are frozen first, by their cgroup: %v", p.Members)
	}
	h.must("--kit", h.path("kit"), "restore", "latest:shop", "--to", "btrfs:"+filepath.Join(h.btrfs, "back"))
	for _, name := range []string{"front", "base"} {
		if _, err := os.Stat(filepath.Join(h.btrfs, "back", name, "log")); err != nil {
			t.Error(err)
		}
	}
	h.refused(0, []string{"status"}, "")
	if out := h.must("show", "latest:shop"); strings.Contains(out, "PATH=") {
		t.Error("show tells environments")
	}
	h.must("thaw")
}

func startDocker(t *testing.T, h *host) *dockertest.Docker {
	t.Helper()
	dir, err := os.MkdirTemp("", "snapd-e2e-") // short: a socket's path has at most 107 bytes
	if err != nil {
		t.Fatal(err)
	}
	docker, err := dockertest.Start(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := docker.Stop(t.Context()); err != nil {
			t.Error(err)
		}
	})
	if err := docker.ImportBusybox(t.Context()); err != nil {
		t.Fatal(err)
	}
	h.env = []string{"DOCKER_HOST=" + docker.Host}
	return docker
}

// TestPruneKeepsWhatOthersBuildOn drops points from repository and host, and
// restores what is left.
func TestPruneKeepsWhatOthersBuildOn(t *testing.T) {
	h := newHost(t, "")
	data := h.subvolume("data")
	h.configure(fmt.Sprintf("[group.data]\npaths = [%q]\nkeep = \"2 last\"\nkeep-local = \"1ms\"", data))
	for i := range 4 {
		if err := os.WriteFile(filepath.Join(data, fmt.Sprint("file ", i)), []byte(fmt.Sprint(i)), 0o600); err != nil {
			t.Fatal(err)
		}
		h.must("snapshot", "data", "--ship")
	}
	var pruned agent.Pruned
	if err := json.Unmarshal([]byte(h.must("--json", "prune", "--dry-run")), &pruned); err != nil {
		t.Fatal(err)
	}
	if len(h.points("list")) != 4 {
		t.Error("a dry run removed something")
	}
	if err := json.Unmarshal([]byte(h.must("--json", "prune")), &pruned); err != nil {
		t.Fatal(err)
	}
	// The first point stays on this host, as a base of increments to come, but
	// no longer in the repository.
	points := slices.DeleteFunc(h.points("list"), func(p point.Point) bool { return !p.InRepository("main") })
	if len(points) != 2 {
		t.Fatalf("%d points are left, want 2", len(points))
	}
	h.must("verify")
	for _, p := range points {
		h.must("--kit", h.path("kit"), "restore", string(p.ID), "--to", "btrfs:"+filepath.Join(h.btrfs, "r"+string(p.ID)))
	}
	fstest.Compare(t, data, filepath.Join(h.btrfs, "r"+string(points[1].ID)))
	next := h.points("run", "data")
	if len(next) != 1 || next[0].Shipped[0].Base == nil {
		t.Errorf("after a prune the next stream builds on what is there: %v", next)
	}
}

// TestDeletedSubvolumeComesBackFromItsSnapshots is what a user needs who
// deleted the wrong thing a minute ago.
func TestDeletedSubvolumeComesBackFromItsSnapshots(t *testing.T) {
	h := newHost(t, "")
	data := h.subvolume("data")
	if err := os.WriteFile(filepath.Join(data, "precious"), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	h.configure(fmt.Sprintf("[group.data]\npaths = [%q]", data))
	h.must("snapshot", "data")
	want := fstest.ReadTree(t, data)
	command(t, "btrfs", "subvolume", "delete", data)
	h.must("restore", "latest:data", "--local", "--to", "btrfs:"+data)
	fstest.CompareTrees(t, want, fstest.ReadTree(t, data))
}

// TestAFailedRestoreLeavesNoFolder restores two datasets without an identity.
func TestAFailedRestoreLeavesNoFolder(t *testing.T) {
	h := newHost(t, "")
	h.configure(fmt.Sprintf("[group.two]\npaths = [%q, %q]\nfreeze = \"none\"", h.subvolume("a"), h.subvolume("b")))
	if p := h.points("run", "two")[0]; p.Consistency != point.Separate {
		t.Errorf("two subvolumes that are not frozen are %s", p.Consistency)
	}
	h.refused(1, []string{"restore", "latest:two", "--to", "btrfs:" + h.btrfs + "/back"}, "no identity opens it")
	h.nothingLeft(h.btrfs, "back")
	h.must("--kit", h.path("kit"), "restore", "latest", "--to", "btrfs:"+h.btrfs+"/back")
	for _, name := range []string{"a", "b"} {
		fstest.Compare(t, filepath.Join(h.btrfs, name), filepath.Join(h.btrfs, "back", name))
	}
}
