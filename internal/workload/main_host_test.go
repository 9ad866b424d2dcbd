//go:build host

package workload_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"snapd/internal/fs"
	"snapd/internal/workload"
	"snapd/internal/workload/dockertest"

	"golang.org/x/sys/unix"
)

// One engine serves all tests of the package.
var docker *dockertest.Docker

func TestMain(m *testing.M) {
	if name := os.Getenv(mapVariable); name != "" {
		os.Exit(mapAndWait(name))
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
	t.Cleanup(func() {
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	})
	return e
}

// runContainer starts a container that the end of the test removes.
func runContainer(t testing.TB, s dockertest.Spec) string {
	t.Helper()
	id, err := docker.Run(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	removeLater(t, id)
	return id
}

func removeLater(t testing.TB, id string) {
	t.Helper()
	ctx := context.WithoutCancel(t.Context())
	t.Cleanup(func() {
		if err := docker.Remove(ctx, id); err != nil && !strings.Contains(err.Error(), "No such container") {
			t.Error(err)
		}
	})
}

func container(t testing.TB, e *workload.Engine, id string) workload.Container {
	t.Helper()
	all, err := e.Containers(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range all {
		if c.ID == id {
			return c
		}
	}
	t.Fatalf("container %s is not in the list", id)
	return workload.Container{}
}

// btrfs makes a real filesystem on a loop device and returns where it is
// mounted.
func btrfs(t testing.TB) string {
	t.Helper()
	image := filepath.Join(t.TempDir(), "image")
	dir := filepath.Join(t.TempDir(), "with space é")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	command(t, "truncate", "-s", "128M", image)
	command(t, "mkfs.btrfs", "-q", image)
	command(t, "mount", "-o", "loop", image, dir)
	t.Cleanup(func() { command(t, "umount", dir) })
	return dir
}

func subvolume(t testing.TB, parts ...string) string {
	t.Helper()
	path := filepath.Join(parts...)
	command(t, "btrfs", "-q", "subvolume", "create", path)
	return path
}

func directory(t testing.TB, parts ...string) string {
	t.Helper()
	path := filepath.Join(parts...)
	if err := os.MkdirAll(path, 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}

func command(t testing.TB, name string, args ...string) {
	t.Helper()
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s %v: %v: %s", name, args, err, out)
	}
}

// locator knows Btrfs subvolumes by the inode number of their root. Only
// Locate of the driver is asked here.
type locator struct{ fs.Driver }

func (locator) Locate(_ context.Context, path string) (fs.Place, error) {
	var kind unix.Statfs_t
	if err := unix.Statfs(path, &kind); err != nil {
		return fs.Place{}, err
	}
	if kind.Type != unix.BTRFS_SUPER_MAGIC {
		return fs.Place{}, fs.ErrNotMine
	}
	const rootInode = 256
	root := path
	for {
		var st unix.Stat_t
		if err := unix.Stat(root, &st); err != nil {
			return fs.Place{}, err
		}
		if st.Ino == rootInode {
			break
		}
		if root = filepath.Dir(root); root == "/" {
			return fs.Place{}, errors.New("no subvolume")
		}
	}
	rel, err := filepath.Rel(root, path)
	p := fs.Place{Path: rel, Dataset: fs.Dataset{Driver: fs.Btrfs, Name: root, GUID: guid(root), Domain: root}}
	_ = filepath.WalkDir(path, func(sub string, e os.DirEntry, walkErr error) error {
		var st unix.Stat_t
		if walkErr == nil && e.IsDir() && sub != path && unix.Stat(sub, &st) == nil && st.Ino == rootInode {
			p.Nested = append(p.Nested, sub)
			return filepath.SkipDir
		}
		return nil
	})
	return p, err
}

func guid(root string) string {
	out, err := exec.Command("btrfs", "subvolume", "show", root).Output()
	if err != nil {
		return root
	}
	for line := range strings.Lines(string(out)) {
		if key, value, ok := strings.Cut(strings.TrimSpace(line), ":"); ok && key == "UUID" {
			return strings.TrimSpace(value)
		}
	}
	return root
}

func eventually(t testing.TB, what string, is func() bool) {
	t.Helper()
	deadline := time.Now().Add(10 * time.Second)
	for !is() {
		if time.Now().After(deadline) {
			t.Fatalf("after 10 s it is still not so that %s", what)
		}
		time.Sleep(time.Millisecond)
	}
}
