//go:build guest

package lvm

import (
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"snapd/internal/fs"
)

// TestKilledCommandIsMended kills LVM's own command between the moment in which
// it suspends a volume and that in which it resumes it.
func TestKilledCommandIsMended(t *testing.T) {
	vg := newGroup(t, 512<<20)
	newPool(t, vg, "pool", 128<<20)
	for name, c := range map[string]struct{ pool, kind string }{
		"thin":    {"pool", "-k y -a n"},
		"classic": {"", "-L 16M"},
	} {
		t.Run(name, func(t *testing.T) {
			node := newVolume(t, vg, c.pool, name, 64<<20)
			t.Cleanup(func() { removeVolume(t, vg, name) })
			dir := t.TempDir() + "/x"
			mkfs(t, "ext4", node, dir)
			d := newDriver(t)
			place, err := d.Locate(t.Context(), dir)
			if err != nil {
				t.Fatal(err)
			}
			dataset := place.Dataset
			argv := append(append([]string{"lvcreate", "-q", "-y", "-s", "-n", "killed", "-p", "r"}, strings.Fields(c.kind)...), vg+"/"+name)
			from, to := betweenSuspendAndResume(t, argv)
			command(t, "lvremove", "-q", "-y", vg+"/killed")
			hung := 0
			for _, at := range []int{from + 1, (from + to) / 2, to} {
				kill := append([]string{"strace", "-f", "-o", "/dev/null", "-e", "trace=ioctl", "-e", "inject=ioctl:signal=KILL:when=" + strconv.Itoa(at)}, argv...)
				if out, err := exec.Command(kill[0], kill[1:]...).CombinedOutput(); err == nil {
					t.Fatalf("it was not killed at %d: %s", at, out)
				}
				left, err := suspended("/sys", map[string]bool{groupOf(dataset): true})
				if err != nil {
					t.Fatal(err)
				}
				t.Logf("killed at %d of %d to %d: suspended are %v", at, from, to, left)
				if len(left) > 0 {
					hung++
				}
				resumed, err := d.Unsuspend(t.Context(), []fs.Dataset{dataset})
				if err != nil || len(left) > 0 != (len(resumed) > 0) {
					t.Errorf("killed at %d: resumed %q, %v", at, resumed, err)
				}
				wrote := make(chan error, 1)
				go func() { wrote <- writeThrough(filepath.Join(dir, "x")) }()
				select {
				case err := <-wrote:
					if err != nil {
						t.Error(err)
					}
				case <-time.After(time.Minute):
					t.Fatalf("killed at %d: a program that writes waits for ever", at)
				}
				if out, err := exec.Command("lvremove", "-q", "-f", "-y", vg+"/killed").CombinedOutput(); err != nil && !strings.Contains(string(out), "Failed to find") {
					t.Errorf("killed at %d: the half-made one cannot be removed: %s", at, out)
				}
				removeSnapshots(t, vg)
				take(t, d, "k"+strconv.Itoa(at), dataset)
				removeSnapshots(t, vg)
			}
			if hung == 0 {
				t.Error("nothing was left suspended: this shows nothing")
			}
		})
	}
}

func writeThrough(name string) error {
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := f.WriteString("x"); err != nil {
		return err
	}
	return f.Sync()
}

// betweenSuspendAndResume runs a command and says which of its ioctls first
// suspends a device and which one resumes the last.
func betweenSuspendAndResume(t *testing.T, argv []string) (from, to int) {
	t.Helper()
	trace := filepath.Join(t.TempDir(), "trace")
	command(t, append([]string{"strace", "-f", "-o", trace, "-e", "trace=ioctl"}, argv...)...)
	text, err := os.ReadFile(trace)
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for line := range strings.Lines(string(text)) {
		if !strings.Contains(line, "ioctl(") {
			continue
		}
		n++
		if strings.Contains(line, "DM_DEV_SUSPEND") {
			if from == 0 {
				from = n
			}
			to = n
		}
	}
	if from == 0 || to == from {
		t.Fatalf("no suspend and resume among %d ioctls", n)
	}
	return from, to
}
