//go:build host

package workload_test

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"snapd/internal/advice"
	"snapd/internal/config"
	"snapd/internal/fs"
	"snapd/internal/proc"
	"snapd/internal/workload"
	"snapd/internal/workload/dockertest"

	apicontainer "github.com/docker/docker/api/types/container"
)

// TestAProcessInAnotherCgroup: a container that moved its process refuses its own
// group, lowers what a group can claim that it writes to, and is nothing to others.
func TestAProcessInAnotherCgroup(t *testing.T) {
	e := connect(t)
	root := btrfs(t)
	data, other := subvolume(t, root, "data"), subvolume(t, root, "other")
	id := runContainer(t, enabled("flt-moved", dockertest.Mount{Source: directory(t, data, "db"), Target: "/data"}))
	runContainer(t, enabled("flt-shares", dockertest.Mount{Source: data, Target: "/data"}))
	runContainer(t, enabled("flt-apart", dockertest.Mount{Source: other, Target: "/data"}))
	mounts, err := proc.Own()
	if err != nil {
		t.Fatal(err)
	}
	pid := container(t, e, id).Pid
	for _, m := range mounts { // into the top of every tree
		if m.Type != "cgroup" && m.Type != "cgroup2" {
			continue
		}
		if err := os.WriteFile(filepath.Join(m.Point, "cgroup.procs"), []byte(strconv.Itoa(pid)), 0); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := resolve(t, e, "flt-moved", ""); err == nil || !strings.Contains(err.Error(), "container flt-moved: process") {
		t.Errorf("its own group: %v", err)
	}
	shares, err := resolve(t, e, "flt-shares", "")
	if err != nil || len(shares.Writers) != 1 || !shares.Writers[0].Overlaps || shares.Writers[0].Container.Fault == nil || !has(shares.Warnings, "container flt-moved: process") {
		t.Errorf("a group that it writes to: %+v, %v", shares, err)
	}
	apart, err := resolve(t, e, "flt-apart", "")
	if err != nil || len(apart.Writers) != 0 || len(apart.Warnings) != 0 {
		t.Errorf("another: %+v, %v", apart, err)
	}
}

// TestAMountThatHangs: a filesystem whose program does not answer any more is told
// from the mount table. Its own group is refused, and nothing waits.
func TestAMountThatHangs(t *testing.T) {
	e := connect(t)
	root := btrfs(t)
	data := subvolume(t, root, "data")
	dir := directory(t, t.TempDir(), "away é")
	mounted, err := dockertest.MountFuse(dir)
	if err != nil {
		t.Fatal(err)
	}
	ids := []string{
		runContainer(t, enabled("flt-hangs", dockertest.Mount{Source: data, Target: "/data"}, dockertest.Mount{Source: dir, Target: "/away"})),
		runContainer(t, dockertest.Spec{Name: "flt-left-out", Labels: map[string]string{"snapd.enable": "true", "snapd.exclude": "/away"}, Mounts: []dockertest.Mount{{Source: data, Target: "/data"}, {Source: dir, Target: "/away"}}}),
		runContainer(t, enabled("flt-well", dockertest.Mount{Source: data, Target: "/data"})),
	}
	mounted.Hang()
	t.Cleanup(func() {
		for _, id := range ids {
			_ = docker.API.ContainerKill(t.Context(), id, "KILL")
		}
	})
	defer func() {
		if err := mounted.Close(); err != nil {
			t.Error(err)
		}
	}()
	within := func(what string, do func()) {
		t.Helper()
		done := make(chan struct{})
		go func() { defer close(done); do() }()
		select {
		case <-done:
		case <-time.After(5 * time.Second):
			t.Errorf("%s waits for the mount that hangs", what)
			_ = mounted.Close()
			<-done
		}
	}
	within("its own group", func() {
		_, err := resolve(t, e, "flt-hangs", "")
		if !errors.Is(err, workload.ErrNoStorage) || !strings.Contains(err.Error(), "which a program makes up") || !strings.Contains(advice.Of(err), `write "/away" into the label snapd.exclude`) {
			t.Errorf("its own group: %v; %s", err, advice.Of(err))
		}
	})
	within("another group", func() {
		r, err := resolve(t, e, "flt-well", "")
		if err != nil || !slices.Equal(datasets(r), []string{data}) || len(r.Writers) != 2 || len(r.Warnings) != 0 {
			t.Errorf("another group: %+v, %v", r, err)
		}
	})
	within("one that leaves it out", func() {
		r, err := resolve(t, e, "flt-left-out", "")
		if err != nil || !slices.Equal(datasets(r), []string{data}) || !has(r.Notes, "is left out, as exclude says") {
			t.Errorf("one that leaves it out: %+v, %v", r, err)
		}
	})
	within("a path", func() {
		if _, err := resolve(t, nil, "plain", "[group.plain]\npaths = [\""+dir+"/x\"]"); !errors.Is(err, workload.ErrNoStorage) {
			t.Errorf("a path on it: %v", err)
		}
	})
	within("the search for mount points", func() {
		if got, err := workload.MountPoints(t.Context(), []string{filepath.Join(dir, "x")}); err != nil || !slices.Equal(got, []string{dir}) {
			t.Errorf("mount points %q, %v", got, err)
		}
	})
}

// TestAFileThatWasReplaced: sed -i writes a new file and renames it over the old
// one, which the container still has.
func TestAFileThatWasReplaced(t *testing.T) {
	e := connect(t)
	data := subvolume(t, btrfs(t), "data")
	file := filepath.Join(data, "app.conf")
	write := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write(file, "a=1\n")
	runContainer(t, enabled("flt-sed", dockertest.Mount{Source: file, Target: "/etc/app.conf"}))
	write(file+".new", "a=2\n")
	if err := os.Rename(file+".new", file); err != nil {
		t.Fatal(err)
	}
	r, err := resolve(t, e, "flt-sed", "")
	if err != nil || !slices.Equal(datasets(r), []string{data}) || len(r.Warnings) != 1 || !has(r.Warnings, "the container still has the old one") {
		t.Errorf("replaced: %+v, %v", r, err)
	}
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	if _, err := resolve(t, e, "flt-sed", ""); err == nil || !strings.Contains(err.Error(), "removed after") {
		t.Errorf("removed: %v", err)
	}
}

// TestWhatIsNoData is left out by itself; what only lies where no snapshot can be
// taken is refused, by a name that exclude takes.
func TestWhatIsNoData(t *testing.T) {
	e := connect(t)
	data := subvolume(t, btrfs(t), "data")
	shm, err := os.MkdirTemp("/dev/shm", "sd")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(shm) })
	if _, err := os.Stat("/etc/localtime"); err != nil {
		t.Fatal(err)
	}
	mounts := []dockertest.Mount{
		{Source: data, Target: "/data"},
		{Source: shm, Target: "/shm"},
		{Source: "/etc/localtime", Target: "/etc/localtime"},
		{Source: "/run", Target: "/host-run"},
		{Source: "/dev/null", Target: "/nothing"},
		{Source: "/sys/kernel", Target: "/kernel"},
	}
	runContainer(t, enabled("flt-nodata", mounts...))
	check := func() {
		t.Helper()
		r, err := resolve(t, e, "flt-nodata", "")
		if err != nil || !slices.Equal(datasets(r), []string{data}) || len(r.Warnings) != 0 {
			t.Fatalf("%+v, %v", r, err)
		}
		for _, want := range []string{shm + " of container flt-nodata is memory", "/etc/localtime of container flt-nodata belongs to this host", "/run of", "/dev/null of", "/sys/kernel of"} {
			if !has(r.Notes, want) {
				t.Errorf("the notes lack %q: %q", want, r.Notes)
			}
		}
	}
	check()
	runContainer(t, enabled("flt-refused", append(mounts, dockertest.Mount{Volume: "flt-plain", Target: "/plain"})...))
	_, err = resolve(t, e, "flt-refused", "")
	if !errors.Is(err, workload.ErrNoStorage) || !strings.Contains(err.Error(), "volume flt-plain") || !strings.Contains(advice.Of(err), `write "flt-plain" into the label snapd.exclude`) {
		t.Errorf("%v; %s", err, advice.Of(err))
	}
	r, err := resolve(t, e, "flt-refused", "[group.flt-refused]\nexclude = [\"flt-plain\"]")
	if err != nil || !has(r.Notes, "volume flt-plain of container flt-refused is left out, as exclude says") {
		t.Errorf("as the advice says: %+v, %v", r, err)
	}
}

// TestACrashLoop: the group of a container that ends again and again can be
// resolved at any moment.
func TestACrashLoop(t *testing.T) {
	e := connect(t)
	data := subvolume(t, btrfs(t), "data")
	runContainer(t, dockertest.Spec{
		Name: "flt-loop", Labels: map[string]string{"snapd.enable": "true"}, Mounts: []dockertest.Mount{{Source: data, Target: "/data"}},
		Cmd: []string{"/bin/sh", "-c", "exit 1"},
		Change: func(_ *apicontainer.Config, h *apicontainer.HostConfig) {
			h.RestartPolicy = apicontainer.RestartPolicy{Name: apicontainer.RestartPolicyAlways}
		},
	})
	seen := false
	for end := time.Now().Add(3 * time.Second); time.Now().Before(end); {
		r, err := resolve(t, e, "flt-loop", "")
		if err != nil || !slices.Equal(datasets(r), []string{data}) {
			t.Fatalf("%+v, %v", r, err)
		}
		seen = seen || has(r.Warnings, "container flt-loop ends by itself and is started again and again")
	}
	if !seen {
		t.Error("it was never said to be restarting")
	}
}

// TestASwapFile is found before anything is frozen.
func TestASwapFile(t *testing.T) {
	root := btrfs(t)
	data, beside := subvolume(t, root, "data"), subvolume(t, root, "beside")
	swap := filepath.Join(data, "swap file")
	g := workload.Group{Group: config.Group{Name: "data"}}
	of := func(path string) error {
		g.Paths = []string{path}
		_, err := workload.Host{Swaps: []proc.Swap{{Path: "/dev/sda9"}, {Path: swap, File: true}}}.Resolve(t.Context(), g, []fs.Driver{locator{}})
		return err
	}
	if err := of(data); err != nil {
		t.Errorf("one that is removed: %v", err)
	}
	if err := os.WriteFile(swap, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := of(data); err == nil || !strings.Contains(err.Error(), swap) || !strings.Contains(advice.Of(err), "swapoff") {
		t.Errorf("got %v; %s", err, advice.Of(err))
	}
	if err := of(beside); err != nil {
		t.Errorf("beside it: %v", err)
	}
}
