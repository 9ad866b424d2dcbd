//go:build guest

package zfs

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"snapd/internal/fs"
	"snapd/internal/fs/fstest"
	"snapd/internal/vmtest"
)

// sh runs a command that must succeed.
func sh(t testing.TB, argv ...string) string {
	t.Helper()
	var stdout, stderr bytes.Buffer
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		t.Fatalf("%q: %v: %s", argv, err, stderr.String())
	}
	return strings.TrimRight(stdout.String(), "\n")
}

// newPool makes a pool on a file, mounted below the test's directory.
func newPool(t testing.TB, size int64, options ...string) (pool string) {
	t.Helper()
	vmtest.Inside(t)
	file, err := os.CreateTemp("/var/tmp", "pool")
	if err != nil {
		t.Fatal(err)
	}
	pool = "p" + filepath.Base(file.Name())[len("pool"):]
	if err := errors.Join(file.Truncate(size), file.Close()); err != nil {
		t.Fatal(err)
	}
	argv := append([]string{"zpool", "create", "-O", "mountpoint=/mnt/" + pool, "-O", "acltype=posix", "-O", "xattr=sa"}, options...)
	sh(t, append(argv, pool, file.Name())...)
	t.Cleanup(func() {
		if out, err := exec.Command("zpool", "destroy", "-f", pool).CombinedOutput(); err != nil && !bytes.Contains(out, []byte("no such pool")) {
			t.Errorf("destroy the pool: %v: %s", err, out)
		}
		os.Remove(file.Name())
		os.Remove("/mnt/" + pool)
	})
	return pool
}

func TestContract(t *testing.T) { fstest.Run(t, harness(t, newPool(t, 3<<30))) }

func harness(t testing.TB, pool string) fstest.Harness {
	t.Helper()
	longest := nameMax - len("@") - len(fs.SnapshotName(testTime, "c")) - len(pool+"/")
	return fstest.Harness{
		Driver: New(),
		Names:  []string{"plain", "with space", "a:b-c_d.e", strings.Repeat("n", longest)},
		NewDataset: func(t testing.TB, name string) string {
			name = pool + "/" + name
			sh(t, "zfs", "create", name)
			t.Cleanup(func() { sh(t, "zfs", "destroy", "-R", name) })
			return sh(t, "zfs", "get", "-Hp", "-o", "value", "mountpoint", name)
		},
		NewTarget: func(_ testing.TB, name string) string { return pool + "/target " + name },
		FullTarget: func(t testing.TB) string {
			name := pool + "/small"
			sh(t, "zfs", "create", "-o", "quota=40M", name)
			t.Cleanup(func() { sh(t, "zfs", "destroy", "-R", name) })
			return name + "/target"
		},
		Show: func(t testing.TB, dataset fs.Dataset) string {
			if sh(t, "zfs", "get", "-Hp", "-o", "value", "mounted", dataset.Name) != "yes" {
				sh(t, "zfs", "mount", dataset.Name)
			}
			return sh(t, "zfs", "get", "-Hp", "-o", "value", "mountpoint", dataset.Name)
		},
		Exists: func(t testing.TB, target string) bool { return there(t, target) },
		Leftovers: func(t testing.TB, _ string) []string {
			return stages(t, pool)
		},
	}
}

// stages lists the datasets in which restores are built.
func stages(t testing.TB, pool string) []string {
	t.Helper()
	var out []string
	for name := range strings.Lines(sh(t, "zfs", "list", "-H", "-r", "-o", "name", "-t", "all", pool)) {
		if strings.Contains(name, fs.StageName("")) {
			out = append(out, strings.TrimSpace(name))
		}
	}
	return out
}

func there(t testing.TB, name string) bool {
	t.Helper()
	return exec.Command("zfs", "list", "-H", name).Run() == nil
}

func mountpoint(t testing.TB, name string) string {
	t.Helper()
	return sh(t, "zfs", "get", "-Hp", "-o", "value", "mountpoint", name)
}

func located(t testing.TB, dir string) fs.Dataset {
	t.Helper()
	place, err := New().Locate(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	return place.Dataset
}

// take makes a snapshot of all the datasets.
func take(t testing.TB, id string, datasets ...fs.Dataset) []fs.Snapshot {
	t.Helper()
	p, err := New().Prepare(t.Context(), fs.SnapshotName(testTime, id), datasets)
	if err != nil {
		t.Fatal(err)
	}
	err = p.Take()
	made, more := p.Result(t.Context())
	if err := firstOf(err, more, p.Close()); err != nil {
		t.Fatal(err)
	}
	return made
}

// deviceOf waits for the device of a volume.
// devicePath is where udev shows a volume: with + for what a name may have and
// a path in /dev should not.
func devicePath(name string) string { return "/dev/zvol/" + strings.ReplaceAll(name, " ", "+") }

func deviceOf(t testing.TB, name string) string {
	t.Helper()
	device := devicePath(name)
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(50 * time.Millisecond) {
		if _, err := os.Stat(device); err == nil {
			return device
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s does not appear", device)
		}
	}
}
