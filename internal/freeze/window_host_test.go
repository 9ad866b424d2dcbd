//go:build host

package freeze

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func options(t testing.TB) Options {
	return Options{Dir: filepath.Join(t.TempDir(), "run"), Deadline: 5 * time.Second}
}

func prepare(t testing.TB, members []Member, o Options) *Window {
	t.Helper()
	w, err := Prepare(t.Context(), members, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := w.Close(); err != nil {
			t.Error(err)
		}
	})
	return w
}

func TestNobodyWritesInTheWindow(t *testing.T) {
	for _, n := range []int{1, 20} {
		writers := newWriters(t, n, busyScript)
		o := options(t)
		w := prepare(t, members(writers), o)
		var before, after []int64
		timings, err := w.Run(func() error {
			for _, x := range writers {
				before = append(before, size(x.file))
			}
			time.Sleep(20 * time.Millisecond)
			for _, x := range writers {
				after = append(after, size(x.file))
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		for i, x := range writers {
			if before[i] != after[i] {
				t.Errorf("%s wrote %d bytes in the window", x.Name, after[i]-before[i])
			}
			x.moves(t)
		}
		if timings.Window < 20*time.Millisecond || timings.Freeze <= 0 || timings.Snapshot < 20*time.Millisecond || timings.Thaw <= 0 {
			t.Errorf("timings %+v", timings)
		}
		if sum := timings.Freeze + timings.Snapshot + timings.Thaw; sum != timings.Window {
			t.Errorf("parts %v, window %v", sum, timings.Window)
		}
		for _, s := range w.Stood() {
			if s.How != ByCgroup || s.Gone {
				t.Errorf("stood %+v", s)
			}
		}
		closed(t, w)
		noJournal(t, o.Dir)
	}
}

func TestThawsWhateverTakeDoes(t *testing.T) {
	broken := errors.New("no space")
	cases := []struct {
		name string
		take func() error
		want func(t *testing.T, err error, panicked any)
	}{
		{"error", func() error { return broken }, func(t *testing.T, err error, _ any) {
			t.Helper()
			if !errors.Is(err, broken) {
				t.Errorf("got %v", err)
			}
		}},
		{"panic", func() error { panic("bad") }, func(t *testing.T, _ error, panicked any) {
			t.Helper()
			if panicked != "bad" {
				t.Errorf("got %v", panicked)
			}
		}},
		{"goexit", func() error { runtime.Goexit(); return nil }, func(t *testing.T, err error, _ any) {
			t.Helper()
			if err == nil {
				t.Error("a take that never returned is a success")
			}
		}},
	}
	writers := newWriters(t, 2, busyScript)
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			o := options(t)
			w := prepare(t, members(writers), o)
			var err error
			panicked := func() (p any) {
				defer func() { p = recover() }()
				_, err = w.Run(c.take)
				return nil
			}()
			c.want(t, err, panicked)
			for _, x := range writers {
				x.moves(t)
			}
			closed(t, w)
			noJournal(t, o.Dir)
		})
	}
}

func TestDeadlineThawsWhileTakeHangs(t *testing.T) {
	writers := newWriters(t, 3, busyScript)
	o := options(t)
	o.Deadline = 30 * time.Millisecond
	w := prepare(t, members(writers), o)
	thawedAfter := time.Duration(0)
	broken := errors.New("late")
	start := time.Now()
	timings, err := w.Run(func() error {
		eventually(t, "all are thawed although take hangs", func() bool {
			for _, x := range writers {
				if frozenNow(t, x.Cgroup) {
					return false
				}
			}
			return true
		})
		thawedAfter = time.Since(start)
		return broken
	})
	var overrun *Overrun
	if !errors.As(err, &overrun) || !errors.Is(err, broken) {
		t.Fatalf("got %v", err)
	}
	if overrun.Asked != o.Deadline || overrun.Took < o.Deadline || overrun.Took > time.Second || timings.Window != overrun.Took {
		t.Errorf("overrun %+v, timings %+v", overrun, timings)
	}
	if thawedAfter > time.Second {
		t.Errorf("thawed after %v", thawedAfter)
	}
	if len(overrun.Waiting) != 0 || overrun.Taken {
		t.Errorf("no member was waited for and take failed: %+v", overrun)
	}
	for _, x := range writers {
		x.moves(t)
	}
	closed(t, w)
	noJournal(t, o.Dir)
}

// A process that writes to a frozen filesystem waits in the kernel, where no
// freezer of tasks reaches it.
func TestDeadlineWhenATaskNeverStandsStill(t *testing.T) {
	dir, freeze := frozenFilesystem(t)
	writers := newWriters(t, 1, busyScript)
	stuck := newWriters(t, 1, `echo x >>"$1"; while :; do echo x >>'`+dir+`/file'; done`)
	freeze()
	all := append(members(writers), stuck[0].Member)
	eventually(t, "the process hangs in the kernel", func() bool { return len(stuckTasks(stuck[0].Cgroup)) > 0 })
	o := options(t)
	o.Deadline = 100 * time.Millisecond
	w := prepare(t, all, o)
	_, err := w.Run(func() error { t.Error("take was called"); return nil })
	var overrun *Overrun
	if !errors.As(err, &overrun) || len(overrun.Waiting) != 1 || overrun.Taken {
		t.Fatalf("got %v", err)
	}
	if text := err.Error(); !strings.Contains(text, stuck[0].Name) || !strings.Contains(text, "uninterruptible: process ") {
		t.Errorf("got %s", text)
	}
	writers[0].moves(t)
	if frozenNow(t, stuck[0].Cgroup) {
		t.Error("left frozen")
	}
	closed(t, w)
	noJournal(t, o.Dir)
}

// frozenFilesystem mounts an ext4 that freeze freezes and the end of the test
// thaws.
func frozenFilesystem(t *testing.T) (dir string, freeze func()) {
	t.Helper()
	image := filepath.Join(t.TempDir(), "ext4")
	dir = t.TempDir()
	for _, command := range [][]string{
		{"truncate", "-s", "16M", image}, {"mkfs.ext4", "-q", image}, {"mount", "-o", "loop", image, dir},
	} {
		if out, err := exec.Command(command[0], command[1:]...).CombinedOutput(); err != nil {
			t.Fatalf("%v: %v: %s", command, err, out)
		}
	}
	fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	const fifreeze, fithaw = 0xC0045877, 0xC0045878
	t.Cleanup(func() {
		unix.Close(fd)
		eventually(t, "the filesystem can be unmounted", func() bool { return unix.Unmount(dir, 0) == nil })
	})
	return dir, func() {
		if err := unix.IoctlSetInt(fd, fifreeze, 0); err != nil {
			t.Fatal(err)
		}
		// Registered now, so that it comes before the test waits for the process.
		t.Cleanup(func() {
			if err := unix.IoctlSetInt(fd, fithaw, 0); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestMemberThatEndsInTheWindow(t *testing.T) {
	writers := newWriters(t, 2, busyScript)
	o := options(t)
	w := prepare(t, members(writers), o)
	_, err := w.Run(func() error {
		if err := writers[0].cmd.Process.Kill(); err != nil { // a frozen task can be killed
			return err
		}
		_ = writers[0].cmd.Wait()
		eventually(t, "its cgroup is removed", func() bool { return os.Remove(writers[0].Cgroup) == nil })
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if s := w.Stood(); !s[0].Gone || s[1].Gone {
		t.Errorf("stood %+v", s)
	}
	writers[1].moves(t)
	closed(t, w)
	noJournal(t, o.Dir)
}

func TestFrozenBySomebodyElseStaysSo(t *testing.T) {
	writers := newWriters(t, 2, busyScript)
	freezeFile := filepath.Join(writers[0].Cgroup, "cgroup.freeze")
	if err := os.WriteFile(freezeFile, []byte("1"), 0); err != nil {
		t.Fatal(err)
	}
	eventually(t, "it is frozen", func() bool { return frozenNow(t, writers[0].Cgroup) })
	o := options(t)
	w := prepare(t, members(writers), o)
	if _, err := w.Run(func() error { return nil }); err != nil {
		t.Fatal(err)
	}
	if got := w.Stood()[0].How; got != LeftAlone {
		t.Errorf("how: %s", got)
	}
	if !frozenNow(t, writers[0].Cgroup) {
		t.Error("it was thawed although another program had frozen it")
	}
	writers[1].moves(t)
	closed(t, w)

	w = prepare(t, members(writers), o)
	_, err := w.Run(func() error { return os.WriteFile(freezeFile, []byte("0"), 0) })
	if !errors.Is(err, ErrDisturbed) {
		t.Errorf("another program thawed its member in the window: %v", err)
	}
}

// Health checks and commands join a container's cgroup also while it is frozen.
func TestWhoJoinsInTheWindowDisturbsNobody(t *testing.T) {
	writers := newWriters(t, 1, busyScript)
	var joined []*exec.Cmd
	t.Cleanup(func() {
		for _, c := range joined {
			_ = c.Process.Kill()
			_ = c.Wait()
		}
	})
	for range 30 {
		o := options(t)
		w := prepare(t, members(writers), o)
		c := exec.Command("sleep", "60")
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		joined = append(joined, c)
		_, err := w.Run(func() error {
			return os.WriteFile(filepath.Join(writers[0].Cgroup, "cgroup.procs"), []byte(strconv.Itoa(c.Process.Pid)), 0)
		})
		if err != nil {
			t.Fatal(err)
		}
		closed(t, w)
	}
	writers[0].moves(t)
}

func TestSomebodyElseThawsInTheWindow(t *testing.T) {
	writers := newWriters(t, 1, busyScript)
	w := prepare(t, members(writers), options(t))
	_, err := w.Run(func() error {
		return os.WriteFile(filepath.Join(writers[0].Cgroup, "cgroup.freeze"), []byte("0"), 0)
	})
	if !errors.Is(err, ErrDisturbed) {
		t.Errorf("got %v", err)
	}
}

func TestNeverFreezesWhatItNeeds(t *testing.T) {
	writers := newWriters(t, 1, idleScript)
	dir := writers[0].Cgroup
	cases := []struct {
		name   string
		member Member
		want   error
	}{
		{"the root of the tree", Member{Kind: Process, Name: "x", Cgroup: filepath.Dir(filepath.Dir(dir))}, ErrNeverFreeze},
		{"outside the tree", Member{Kind: Process, Name: "x", Cgroup: t.TempDir()}, ErrNeverFreeze},
		{"out of the tree by dots", Member{Kind: Process, Name: "x", Cgroup: dir + "/../../../../tmp"}, ErrNeverFreeze},
		{"a container's id that the path lacks", Member{Kind: Container, ID: strings.Repeat("a", 64), Name: "x", Cgroup: dir}, ErrNeverFreeze},
		{"a process of another cgroup", Member{Kind: Process, Name: "x", Cgroup: dir, Pid: os.Getpid()}, ErrChanged},
		{"a process that has ended", Member{Kind: Process, Name: "x", Cgroup: dir, Pid: 1 << 22}, ErrChanged},
		{"a container that is gone", Member{Kind: Container, ID: "gone", Name: "x", Cgroup: filepath.Join(filepath.Dir(dir), "gone")}, ErrChanged},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			o := options(t)
			w, err := Prepare(t.Context(), []Member{writers[0].Member, c.member}, o)
			if !errors.Is(err, c.want) {
				t.Errorf("got %v", err)
			}
			if w != nil {
				t.Error("a window was returned")
			}
			noJournal(t, o.Dir)
		})
	}
}

func TestNeverFreezesDaemonsAndItself(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"dockerd", "containerd-shim-runc-v2", "dbus-daemon", "systemd-journald"} {
		t.Run(name, func(t *testing.T) {
			sleep, err := os.ReadFile("/bin/sleep")
			if err != nil {
				t.Fatal(err)
			}
			program := filepath.Join(dir, name)
			if err := os.WriteFile(program, sleep, 0o700); err != nil {
				t.Fatal(err)
			}
			w := newWriters(t, 1, `echo x >>"$1"; exec `+program+` 1000`)[0]
			eventually(t, "it runs", func() bool { return programOf(w.Pid) == name })
			m := w.Member
			m.Cgroup, m.Pid = filepath.Dir(w.Cgroup), 0 // the daemon lies deeper
			if _, err := Prepare(t.Context(), []Member{m}, options(t)); !errors.Is(err, ErrNeverFreeze) || !strings.Contains(err.Error(), name) {
				t.Errorf("got %v", err)
			}
		})
	}
	t.Run("itself", func(t *testing.T) {
		cmd := reexec(t, "self", "")
		out, err := cmd.CombinedOutput()
		if err != nil || !strings.Contains(string(out), "must never be frozen") {
			t.Errorf("%v: %s", err, out)
		}
	})
}

func TestNobodyToFreeze(t *testing.T) {
	o := options(t)
	w := prepare(t, nil, o)
	called := false
	timings, err := w.Run(func() error { called = true; time.Sleep(time.Millisecond); return nil })
	if err != nil || !called || timings.Window != 0 || timings.Snapshot == 0 {
		t.Errorf("%+v, %v", timings, err)
	}
	noJournal(t, o.Dir)
	if _, err := w.Run(func() error { return nil }); err == nil {
		t.Error("a window ran twice")
	}
}
