//go:build host

package freeze

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// abandon leaves a window as a dead process would: frozen, journal unlocked.
func abandon(t *testing.T, writers []writer, dir string) {
	t.Helper()
	w, err := Prepare(t.Context(), members(writers), Options{Dir: dir, Deadline: time.Second})
	if err != nil {
		t.Fatal(err)
	}
	if err := w.journal.setState(stateOpen); err != nil {
		t.Fatal(err)
	}
	if err := w.freeze(); err != nil {
		t.Fatal(err)
	}
	if err := w.journal.close(); err != nil {
		t.Fatal(err)
	}
	for _, x := range w.targets {
		x.close()
	}
}

func TestRecoverThawsOnlyTheVeryCgroup(t *testing.T) {
	dir := t.TempDir()
	writers := newWriters(t, 2, busyScript)
	abandon(t, writers, dir)
	// The first one ends, and another program freezes another cgroup of the
	// same name.
	_ = writers[0].cmd.Process.Kill()
	_ = writers[0].cmd.Wait()
	eventually(t, "its cgroup is removed", func() bool { return os.Remove(writers[0].Cgroup) == nil })
	if err := os.Mkdir(writers[0].Cgroup, 0o755); err != nil {
		t.Fatal(err)
	}
	freezeFile := filepath.Join(writers[0].Cgroup, "cgroup.freeze")
	if err := os.WriteFile(freezeFile, []byte("1"), 0); err != nil {
		t.Fatal(err)
	}
	got, err := Recover(t.Context(), Options{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	if len(got) != 2 || got[0].Name != "writer1" || got[0].Outcome != Thawed || got[1].Outcome != Vanished {
		t.Errorf("got %+v", got)
	}
	if on, _ := os.ReadFile(freezeFile); string(on) != "1\n" {
		t.Errorf("a cgroup that is not ours was thawed: %q", on)
	}
	writers[1].moves(t)
	noJournal(t, dir)
}

func TestRecoverLeavesALivingWindowAlone(t *testing.T) {
	writers := newWriters(t, 1, busyScript)
	o := options(t)
	w := prepare(t, members(writers), o)
	_, err := w.Run(func() error {
		got, err := Recover(t.Context(), o)
		if err != nil || len(got) != 0 || !frozenNow(t, writers[0].Cgroup) {
			t.Errorf("got %+v, %v", got, err)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestRecoverByTwoAtOnce(t *testing.T) {
	writers := newWriters(t, 10, tickScript)
	dir := t.TempDir()
	for range 10 {
		abandon(t, writers, dir)
		errs := make(chan error)
		for range 4 {
			go func() {
				_, err := Recover(context.WithoutCancel(t.Context()), Options{Dir: dir})
				errs <- err
			}()
		}
		for range 4 {
			if err := <-errs; err != nil {
				t.Error(err)
			}
		}
		for _, w := range writers {
			w.moves(t)
		}
		noJournal(t, dir)
	}
}

func TestRecoverKeepsWhatItCannotRead(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "window-1-0")
	for _, content := range []string{"", "snapd-window-9 open    \n{}", "snapd-window-2 open    \n\nnot json", "snapd-window-2 open    \nx\n{}", "snapd-window-1 open    \n{}"} {
		if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Recover(t.Context(), Options{Dir: dir}); err == nil {
			t.Errorf("%q was accepted", content)
		}
		if err := unix.Access(file, unix.F_OK); err != nil {
			t.Errorf("%q was removed: %v", content, err)
		}
	}
	if got, err := Recover(t.Context(), Options{Dir: filepath.Join(dir, "none")}); err != nil || got != nil {
		t.Errorf("without a directory: %v, %v", got, err)
	}
}
