//go:build host

package workload_test

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"snapd/internal/advice"
	"snapd/internal/config"
	"snapd/internal/fs"
	"snapd/internal/workload"
	"snapd/internal/workload/dockertest"

	"golang.org/x/sys/unix"
)

// resolve looks up the group called name among the containers that run now.
func resolve(t *testing.T, e *workload.Engine, name, toml string) (workload.Resolved, error) {
	t.Helper()
	cfg, err := config.Parse("f.toml", []byte(toml))
	if err != nil {
		t.Fatal(err)
	}
	var all []workload.Container
	if e != nil {
		if all, err = e.Containers(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	groups, problems := workload.Groups(cfg, all)
	g, err := workload.Find(groups, problems, name)
	if err != nil {
		t.Fatal(err)
	}
	return workload.Host{Containers: all}.Resolve(t.Context(), g, []fs.Driver{locator{}})
}

func datasets(r workload.Resolved) []string {
	var out []string
	for _, p := range r.Places {
		out = append(out, p.Dataset.Name)
	}
	return out
}

func has(list []string, part string) bool {
	return slices.ContainsFunc(list, func(s string) bool { return strings.Contains(s, part) })
}

func enabled(name string, mounts ...dockertest.Mount) dockertest.Spec {
	return dockertest.Spec{Name: name, Labels: map[string]string{"snapd.enable": "true"}, Mounts: mounts}
}

func TestResolveVolumesBindsAndPaths(t *testing.T) {
	e := connect(t)
	root := btrfs(t)
	volume, bind, path := subvolume(t, root, "volume"), subvolume(t, root, "bind"), subvolume(t, root, "path")
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(path, link); err != nil {
		t.Fatal(err)
	}
	if err := docker.BindVolume(t.Context(), "res-volume", volume); err != nil {
		t.Fatal(err)
	}
	socket := docker.Host[len("unix://"):]
	spec := enabled("res-db",
		dockertest.Mount{Volume: "res-volume", Target: "/data"},
		dockertest.Mount{Source: directory(t, bind, "deep"), Target: "/bind"},
		dockertest.Mount{Source: directory(t, root, "ro"), Target: "/ro", ReadOnly: true},
		dockertest.Mount{Source: socket, Target: "/var/run/docker.sock"},
		dockertest.Mount{Source: directory(t, bind, "run"), Target: "/var/run/app"}, // /var/run is a link in the image
		dockertest.Mount{Target: "/scratch"})
	id := runContainer(t, spec)
	toml := "[group.res-db]\npaths = [\"" + link + "\"]"
	check := func(when string) {
		t.Helper()
		r, err := resolve(t, e, "res-db", toml)
		if err != nil {
			t.Fatalf("%s: %v", when, err)
		}
		if got, want := datasets(r), []string{bind, path, volume}; !slices.Equal(got, want) {
			t.Fatalf("%s: datasets %q, want %q", when, got, want)
		}
		if p := r.Places[0]; !slices.Equal(p.Paths, []string{bind + "/deep", bind + "/run"}) || !slices.Equal(p.Users, []string{"res-db"}) || p.Path != "deep" {
			t.Errorf("%s: the bind mount: %+v", when, p)
		}
		if p := r.Places[1]; !slices.Equal(p.Paths, []string{path}) || len(p.Users) != 0 {
			t.Errorf("%s: the path: %+v", when, p)
		}
		if p := r.Places[2]; !slices.Equal(p.Paths, []string{volume}) || p.Path != "." {
			t.Errorf("%s: the volume: %+v", when, p)
		}
		for _, note := range []string{"read-only", "a socket", "is memory"} {
			if !has(r.Notes, note) {
				t.Errorf("%s: notes %q lack %q", when, r.Notes, note)
			}
		}
		if len(r.Warnings) != 0 {
			t.Errorf("%s: warnings %q", when, r.Warnings)
		}
	}
	check("running")
	if err := docker.API.ContainerKill(t.Context(), id, "KILL"); err != nil {
		t.Fatal(err)
	}
	eventually(t, "it does not run", func() bool { running, _, err := e.State(t.Context(), id); return err == nil && !running })
	check("stopped")
}

func TestResolveNested(t *testing.T) {
	e := connect(t)
	root, other := btrfs(t), btrfs(t)
	data := subvolume(t, root, "data")
	nested, wanted := subvolume(t, data, "nested"), subvolume(t, data, "wanted")
	mounted, memory := directory(t, data, "mounted"), directory(t, data, "memory")
	command(t, "mount", "--bind", subvolume(t, other, "second"), mounted)
	t.Cleanup(func() { command(t, "umount", mounted) })
	command(t, "mount", "-t", "tmpfs", "none", memory)
	t.Cleanup(func() { command(t, "umount", memory) })
	id := runContainer(t, enabled("res-nested", dockertest.Mount{Source: data, Target: "/data"}))
	r, err := resolve(t, e, "res-nested", "[group.res-nested]\npaths = [\""+wanted+"\"]")
	if err != nil {
		t.Fatal(err)
	}
	got := datasets(r)
	if len(got) != 3 || !slices.Contains(got, data) || !slices.Contains(got, wanted) || !has(got, "second") && !has(got, "mounted") {
		t.Errorf("datasets %q", got)
	}
	if !has(r.Warnings, "not covered: /data/memory, mounted below") || !has(r.Warnings, "tmpfs, which is memory and is not kept") || !has(r.Warnings, nested) || has(r.Warnings, wanted) {
		t.Errorf("warnings %q", r.Warnings)
	}
	if err := docker.Remove(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	r, err = resolve(t, nil, "plain", "[group.plain]\npaths = [\""+data+"\"]")
	if err != nil || len(r.Places) != 2 || !has(r.Warnings, memory) || !has(r.Warnings, nested) || !has(r.Warnings, wanted) {
		t.Errorf("a plain path: %+v, %v", r, err)
	}
}

func TestResolveRefuses(t *testing.T) {
	e := connect(t)
	tmp, err := os.MkdirTemp("/dev/shm", "sd")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(tmp) })
	overlay := directory(t, t.TempDir(), "merged")
	base := t.TempDir()
	command(t, "mount", "-t", "overlay", "none", "-o", "lowerdir="+directory(t, base, "l")+",upperdir="+directory(t, base, "u")+",workdir="+directory(t, base, "w"), overlay)
	t.Cleanup(func() { command(t, "umount", overlay) })
	if err := docker.Volume(t.Context(), "res-nfs", map[string]string{"type": "nfs", "o": "addr=127.0.0.1", "device": ":/x"}); err != nil {
		t.Fatal(err)
	}
	if err := docker.Volume(t.Context(), "res-cifs", map[string]string{"type": "cifs", "o": "addr=127.0.0.1", "device": "//x/y"}); err != nil {
		t.Fatal(err)
	}
	cases := []struct {
		name  string
		mount dockertest.Mount
		idle  bool
		want  string
	}{
		{"overlay", dockertest.Mount{Source: overlay, Target: "/data"}, false, "it lies on overlay, which is made of layers"},
		{"plain ext4", dockertest.Mount{Volume: "res-plain", Target: "/data"}, false, "snapd snapshots Btrfs, ZFS and LVM only"},
		{"nfs", dockertest.Mount{Volume: "res-nfs", Target: "/n"}, true, "volume res-nfs of container res-refused cannot be snapshotted: it lies on nfs, which lives on another host"},
		{"cifs", dockertest.Mount{Volume: "res-cifs", Target: "/n"}, true, "cifs, which lives on another host"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			spec := enabled("res-refused", c.mount)
			if c.idle { // it could not be started: no server has the share
				id, err := docker.Create(t.Context(), spec)
				if err != nil {
					t.Fatal(err)
				}
				removeLater(t, id)
			} else {
				runContainer(t, spec)
			}
			_, err := resolve(t, e, "res-refused", "")
			if !errors.Is(err, workload.ErrNoStorage) || !strings.Contains(err.Error(), c.want) || !strings.Contains(advice.Of(err), "snapd.exclude") {
				t.Errorf("got %v", err)
			}
		})
	}
	if _, err := resolve(t, nil, "plain", "[group.plain]\npaths = [\""+tmp+"\"]"); !errors.Is(err, workload.ErrNoStorage) {
		t.Errorf("a path on tmpfs: %v", err)
	}
	if _, err := resolve(t, nil, "plain", "[group.plain]\npaths = [\"/does/not/exist\"]"); err == nil || !strings.Contains(err.Error(), "/does/not/exist does not exist") {
		t.Errorf("a path that does not exist: %v", err)
	}
	if _, err := resolve(t, nil, "plain", "[group.plain]\npaths = [\"/proc\"]"); err == nil || !strings.Contains(err.Error(), "nothing to snapshot") {
		t.Errorf("a path of the kernel: %v", err)
	}
}

// disks is a driver that takes one block device, by its node.
type disks struct {
	fs.Driver
	node string
}

func (d disks) Locate(_ context.Context, path string) (fs.Place, error) {
	if path != d.node {
		return fs.Place{}, fs.ErrNotMine
	}
	return fs.Place{Dataset: fs.Dataset{Driver: fs.LVM, Name: "vg/disk", GUID: "1"}, Path: "."}, nil
}

// TestResolveDevices: a block device that the configuration names is taken, also
// by a link to its node, or refused; it is never passed over.
func TestResolveDevices(t *testing.T) {
	image := filepath.Join(t.TempDir(), "image")
	command(t, "truncate", "-s", "1M", image)
	out, err := exec.Command("losetup", "-f", "--show", image).Output()
	if err != nil {
		t.Fatal(err)
	}
	node := strings.TrimSpace(string(out))
	t.Cleanup(func() { command(t, "losetup", "-d", node) })
	link := filepath.Join(t.TempDir(), "disk")
	if err := os.Symlink(node, link); err != nil {
		t.Fatal(err)
	}
	of := func(path string, d fs.Driver) (workload.Resolved, error) {
		g := workload.Group{}
		g.Name, g.Paths = "raw", []string{path}
		return workload.Host{}.Resolve(t.Context(), g, []fs.Driver{locator{}, d})
	}
	for _, path := range []string{node, link} {
		if got, err := of(path, disks{node: node}); err != nil || !slices.Equal(datasets(got), []string{"vg/disk"}) {
			t.Errorf("%s: got %v, %v", path, datasets(got), err)
		}
	}
	if _, err := of(node, disks{}); !errors.Is(err, workload.ErrNoStorage) || !strings.Contains(err.Error(), "block device") {
		t.Errorf("one that no driver takes: %v", err)
	}
	// A node elsewhere leads to the same device, but lies on a filesystem.
	info, err := os.Stat(node)
	if err != nil {
		t.Fatal(err)
	}
	elsewhere := filepath.Join(subvolume(t, btrfs(t), "s"), "node")
	if err := unix.Mknod(elsewhere, unix.S_IFBLK|0o600, int(info.Sys().(*syscall.Stat_t).Rdev)); err != nil {
		t.Fatal(err)
	}
	if got, err := of(elsewhere, disks{node: node}); !errors.Is(err, workload.ErrNoStorage) {
		t.Errorf("a node that lies on Btrfs: got %v, %v", datasets(got), err)
	}
}

func TestResolveDirectoryThatWasRemoved(t *testing.T) {
	e := connect(t)
	root := btrfs(t)
	dir := directory(t, subvolume(t, root, "data"), "x")
	runContainer(t, enabled("res-removed", dockertest.Mount{Source: dir, Target: "/data"}))
	if err := os.Remove(dir); err != nil {
		t.Fatal(err)
	}
	directory(t, dir) // another of the same name is not what the container writes to
	if _, err := resolve(t, e, "res-removed", ""); err == nil || !strings.Contains(err.Error(), "removed after the container was started") {
		t.Errorf("got %v", err)
	}
}

func TestResolveWriters(t *testing.T) {
	e := connect(t)
	root := btrfs(t)
	data := subvolume(t, root, "data")
	elsewhere := subvolume(t, root, "elsewhere")
	runContainer(t, enabled("res-owner", dockertest.Mount{Source: directory(t, data, "db"), Target: "/data"}))
	run := func(name string, labels map[string]string, m dockertest.Mount) {
		runContainer(t, dockertest.Spec{Name: name, Labels: labels, Mounts: []dockertest.Mount{m}})
	}
	run("w-same", nil, dockertest.Mount{Source: data + "/db", Target: "/x"})
	run("w-above", nil, dockertest.Mount{Source: root, Target: "/x"})
	run("w-beside", nil, dockertest.Mount{Source: directory(t, data, "other"), Target: "/x"})
	run("w-reader", nil, dockertest.Mount{Source: data, Target: "/x", ReadOnly: true})
	run("w-elsewhere", nil, dockertest.Mount{Source: elsewhere, Target: "/x"})
	run("w-refuses", map[string]string{"snapd.freeze": "none"}, dockertest.Mount{Source: data, Target: "/x"})
	r, err := resolve(t, e, "res-owner", "")
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, w := range r.Writers {
		line := w.Container.Name
		if w.Overlaps {
			line += " overlaps"
		}
		if w.Refuses {
			line += " refuses"
		}
		got = append(got, line)
		if len(w.Datasets) != 1 || w.Datasets[0].Name != data {
			t.Errorf("%s: datasets %+v", w.Container.Name, w.Datasets)
		}
	}
	if want := []string{"w-above overlaps", "w-beside", "w-refuses overlaps refuses", "w-same overlaps"}; !slices.Equal(got, want) {
		t.Errorf("writers %q, want %q", got, want)
	}
}
