package run

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestWhole(t *testing.T) {
	out, err := Program{Argv: []string{"sh", "-c", `printf '%s|' "$@"; printf %s "$LC_ALL"`, "sh", "a b", ""}, Whole: true}.Output(t.Context())
	if err != nil || string(out) != "a b||C" {
		t.Errorf("got %q, %v", out, err)
	}
	_, err = Program{Argv: []string{"sh", "-c", "echo why it failed >&2; exit 5"}, Whole: true}.Output(t.Context())
	var failed *Error
	if !errors.As(err, &failed) || failed.Code != 5 || failed.Stderr != "why it failed\n" {
		t.Errorf("got %v", err)
	}
}

// What was begun goes on to its end when ctx is cancelled; nothing new begins.
func TestWholeIsNotCancelled(t *testing.T) {
	begun, ended := t.TempDir()+"/begun", t.TempDir()+"/ended"
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		for _, err := os.Stat(begun); err != nil; _, err = os.Stat(begun) {
			time.Sleep(time.Millisecond)
		}
		cancel()
	}()
	p := Program{Argv: []string{"sh", "-c", `touch "$0"; sleep 0.3; touch "$1"`, begun, ended}, Whole: true}
	if _, err := p.Output(ctx); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(ended); err != nil {
		t.Error(err)
	}
	if _, err := p.Output(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("after cancellation: got %v", err)
	}
}

// What is locked through Hold is locked until the program ends, and not longer.
func TestWholeHolds(t *testing.T) {
	dir := t.TempDir()
	lock, err := os.Create(dir + "/lock")
	if err == nil {
		err = unix.Flock(int(lock.Fd()), unix.LOCK_EX)
	}
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() {
		line := `touch "$0/begun"; while [ ! -e "$0/enough" ]; do sleep 0.01; done`
		_, err := Program{Argv: []string{"sh", "-c", line, dir}, Whole: true, KeepOpen: lock}.Output(t.Context())
		ended <- err
	}()
	for _, err := os.Stat(dir + "/begun"); err != nil; _, err = os.Stat(dir + "/begun") {
		time.Sleep(time.Millisecond)
	}
	// It runs, so that its descriptors were read; this lets the race detector know.
	syscall.ForkLock.RLock()
	syscall.ForkLock.RUnlock()           //nolint:staticcheck // nothing is done meanwhile
	if err := lock.Close(); err != nil { // as when we are killed
		t.Fatal(err)
	}
	again, err := os.Open(dir + "/lock")
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	if err := unix.Flock(int(again.Fd()), unix.LOCK_EX|unix.LOCK_NB); !errors.Is(err, unix.EWOULDBLOCK) {
		t.Errorf("while it runs: got %v, want it to be locked", err)
	}
	if err := os.WriteFile(dir+"/enough", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if err := unix.Flock(int(again.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		t.Errorf("when it has ended: %v", err)
	}
}

// TestWholeOutlivesUs is also the program that is killed.
func TestWholeOutlivesUs(t *testing.T) {
	if dir := os.Getenv("RUN_TEST_WHOLE"); dir != "" {
		line := `touch "$0/begun"; while [ ! -e "$0/killed" ]; do sleep 0.01; done; echo still here; echo and here >&2; touch "$0/ended"`
		_, err := Program{Argv: []string{"sh", "-c", line, dir}, Whole: true}.Output(t.Context())
		t.Fatal(err)
	}
	dir := t.TempDir()
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestWholeOutlivesUs$")
	cmd.Env = append(os.Environ(), "RUN_TEST_WHOLE="+dir)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	waitFor(t, filepath.Join(dir, "begun"))
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err == nil || !strings.Contains(err.Error(), "killed") {
		t.Errorf("got %v", err)
	}
	if err := os.WriteFile(filepath.Join(dir, "killed"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	waitFor(t, filepath.Join(dir, "ended"))
}

func waitFor(t *testing.T, file string) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		if _, err := os.Stat(file); err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s does not come", file)
		}
	}
}
