//go:build host

package workload_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"snapd/internal/fs"
	"snapd/internal/workload"

	"golang.org/x/sys/unix"
)

// Who makes, moves or removes a name between Begin and End is seen as well, in the
// group's directory and below it, and nowhere else.
func TestWatchSeesNames(t *testing.T) {
	root := btrfs(t)
	data, other := subvolume(t, root, "my data"), subvolume(t, root, "other")
	group := directory(t, data, "group é")
	drivers := []fs.Driver{topLocator{top: root}}
	whole := reachOf(t, other, drivers...)
	for _, dir := range []string{group, data, other} {
		directory(t, dir, "sub")
		for _, name := range []string{"/sub/a", "/sub/b", "/c", "/d"} {
			if err := os.WriteFile(dir+name, nil, 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	w, err := reachOf(t, group, drivers...).Watch(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	all, err := whole.Watch(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer all.Close()
	if err := w.Begin(); err != nil {
		t.Fatal(err)
	}
	if err := all.Begin(); err != nil {
		t.Fatal(err)
	}
	did := func(words ...string) int {
		t.Helper()
		cmd := exec.Command(words[0], words[1:]...)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v: %v: %s", words, err, out)
		}
		return cmd.Process.Pid
	}
	changes := func(dir string) map[int]string {
		return map[int]string{
			did("mkdir", dir+"/made"):                  "mkdir in " + dir,
			did("mv", dir+"/sub/a", dir+"/sub/moved"):  "mv below " + dir,
			did("rm", dir+"/sub/b"):                    "rm below " + dir,
			did("ln", "-s", "nowhere", dir+"/sub/sym"): "ln -s below " + dir,
			did("ln", dir+"/c", dir+"/linked"):         "ln in " + dir,
		}
	}
	inGroup, beside, inOther := changes(group), changes(data), changes(other)
	if err := os.Mkdir(group+"/own", 0o700); err != nil {
		t.Fatal(err)
	}
	w.End()
	all.End()
	did("mkdir", group+"/after")
	for _, c := range []struct {
		of         string
		wrote      func() ([]int, error)
		want, none map[int]string
	}{
		{"a directory", pidsOf(w.Wrote), inGroup, inOther},
		{"a whole subvolume", pidsOf(all.Wrote), inOther, inGroup},
	} {
		got, err := c.wrote()
		if err != nil {
			t.Fatal(err)
		}
		for pid, what := range c.want {
			if !slices.Contains(got, pid) {
				t.Errorf("%s: not seen: %s", c.of, what)
			}
		}
		if len(got) != len(c.want) {
			t.Errorf("%s: it sees %s beside these", c.of, fmt.Sprint(got, c.none, beside))
		}
	}
}

func pidsOf(wrote func() ([]workload.Process, error)) func() ([]int, error) {
	return func() (pids []int, err error) {
		all, err := wrote()
		for _, p := range all {
			pids = append(pids, p.PID)
		}
		return pids, err
	}
}

// topLocator opens the top of a filesystem as the driver of Btrfs does it: by a mount
// that is attached nowhere.
type topLocator struct {
	locator
	top string
}

func (l topLocator) OpenTop(context.Context, fs.Dataset) (*os.File, error) {
	tree, err := unix.OpenTree(unix.AT_FDCWD, l.top, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
	if err != nil {
		return nil, err
	}
	defer unix.Close(tree) // what is opened keeps it
	fd, err := unix.Openat(tree, ".", unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), l.top), nil
}

// A file behind a loop device is written to by the kernel: no process has it open.
func TestHoldersBehindLoopDevices(t *testing.T) {
	group := subvolume(t, btrfs(t), "my data")
	want := map[string]string{}
	for name, option := range map[string]string{"read": "--read-only", "write": "--show"} {
		command(t, "truncate", "-s", "1M", group+"/"+name)
		out, err := exec.Command("losetup", "--find", "--show", option, group+"/"+name).Output()
		if err != nil {
			t.Fatal(err)
		}
		device := strings.TrimSpace(string(out))
		want[name] = device
		t.Cleanup(func() { _ = exec.Command("losetup", "--detach", device).Run() })
	}
	var got []string
	for _, p := range reachOf(t, group).Holders(workload.LookAtOpenFiles(t.Context(), 5*time.Second)) {
		got = append(got, p.Device)
	}
	if len(got) != 1 || got[0] != want["write"] {
		t.Errorf("got %q, want %s alone", got, want["write"])
	}
}
