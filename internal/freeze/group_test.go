//go:build host || guest

package freeze

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"snapd/internal/cgroup"

	"golang.org/x/sys/unix"
)

// writer is a busy process in a cgroup of its own.
type writer struct {
	Member
	file string // it appends to this all the time
	cmd  *exec.Cmd
}

// newWriters makes n of them below one cgroup, and removes them after the
// test, whatever it left frozen.
func newWriters(t testing.TB, n int, script string) []writer {
	t.Helper()
	mount, err := cgroup.Mount()
	if err != nil {
		t.Fatal(err)
	}
	parent := filepath.Join(mount, fmt.Sprintf("snapd-test-%d-%d", os.Getpid(), time.Now().UnixNano()))
	if err := os.Mkdir(parent, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { removeCgroup(t, parent) })
	dir := t.TempDir()
	var out []writer
	for i := range n {
		name := fmt.Sprintf("writer%d", i)
		w := writer{file: filepath.Join(dir, name)}
		w.Member = Member{Kind: Process, ID: name, Name: name, Cgroup: filepath.Join(parent, name)}
		if err := os.Mkdir(w.Cgroup, 0o755); err != nil {
			t.Fatal(err)
		}
		w.start(t, script)
		out = append(out, w)
	}
	return out
}

// start runs the script, which knows its file as $1, inside the cgroup.
func (w *writer) start(t testing.TB, script string) {
	t.Helper()
	fd, err := unix.Open(w.Cgroup, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	w.cmd = exec.Command("/bin/sh", "-c", script, "writer", w.file)
	w.cmd.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: fd, Pdeathsig: syscall.SIGKILL}
	if err := w.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	w.Pid = w.cmd.Process.Pid
	t.Cleanup(func() {
		_ = w.cmd.Process.Kill()
		_ = w.cmd.Wait()
	})
	eventually(t, "the writer has begun", func() bool { return size(w.file) > 0 })
}

const (
	busyScript = `while :; do echo x >>"$1"; done`
	tickScript = `while :; do echo x >>"$1"; sleep 0.02; done`
	idleScript = `echo x >>"$1"; exec sleep 1000`
)

// removeCgroup kills the processes that are left in a tree and removes it.
func removeCgroup(t testing.TB, dir string) {
	t.Helper()
	deadline := time.Now().Add(10 * time.Second)
	for {
		var dirs []string
		_ = filepath.WalkDir(dir, func(path string, e os.DirEntry, err error) error {
			if err == nil && e.IsDir() {
				dirs = append(dirs, path)
				_ = os.WriteFile(filepath.Join(path, "cgroup.freeze"), []byte("0"), 0)
				_ = os.WriteFile(filepath.Join(path, "cgroup.kill"), []byte("1"), 0)
			}
			return nil
		})
		for _, dir := range slices.Backward(dirs) {
			_ = os.Remove(dir)
		}
		if _, err := os.Stat(dir); os.IsNotExist(err) {
			return
		}
		if time.Now().After(deadline) {
			t.Errorf("cgroup %s could not be removed", dir)
			return
		}
		time.Sleep(time.Millisecond)
	}
}

func eventually(t testing.TB, what string, is func() bool) {
	t.Helper()
	deadline := time.Now().Add(10 * time.Second)
	for !is() {
		if time.Now().After(deadline) {
			t.Fatalf("after 10 s it is still not so that %s", what)
		}
		time.Sleep(200 * time.Microsecond)
	}
}

func size(file string) int64 {
	st, err := os.Stat(file)
	if err != nil {
		return 0
	}
	return st.Size()
}

// frozenNow reads what the kernel says about a cgroup.
func frozenNow(t testing.TB, dir string) bool {
	t.Helper()
	content, err := os.ReadFile(filepath.Join(dir, "cgroup.events"))
	if err != nil {
		t.Fatal(err)
	}
	return strings.Contains(string(content), "frozen 1")
}

// moves fails unless the writer goes on writing.
func (w writer) moves(t testing.TB) {
	t.Helper()
	before := size(w.file)
	eventually(t, w.Name+" writes", func() bool { return size(w.file) > before })
}

func members(writers []writer) []Member {
	var out []Member
	for _, w := range writers {
		out = append(out, w.Member)
	}
	return out
}

func noJournal(t testing.TB, dir string) {
	t.Helper()
	left, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil || len(left) > 0 {
		t.Errorf("journals left: %v, %v", left, err)
	}
}

func closed(t testing.TB, w *Window) {
	t.Helper()
	if err := w.Close(); err != nil {
		t.Error(err)
	}
}
