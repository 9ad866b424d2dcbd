//go:build outside

package vmtest_test

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"snapd/internal/vmtest"
)

func TestResetForgetsAndRebootKeeps(t *testing.T) {
	g := vmtest.New(t, vmtest.Spec{})
	g.Sh(t, "echo kept >/root/kept && sync")
	was := g.Sh(t, "cat /proc/sys/kernel/random/boot_id")
	if err := g.Reboot(t.Context()); err != nil {
		t.Fatal(err)
	}
	if now := g.Sh(t, "cat /proc/sys/kernel/random/boot_id"); now == was {
		t.Error("the guest has the same boot id after a reboot")
	}
	if got := g.Sh(t, "cat /root/kept; systemctl is-active docker"); got != "kept\nactive\n" {
		t.Errorf("after the reboot: %q", got)
	}
	begin := time.Now()
	if err := g.Reset(t.Context()); err != nil {
		t.Fatal(err)
	}
	took := time.Since(begin)
	t.Logf("reset in %.1f s", took.Seconds())
	if took > 15*time.Second {
		t.Errorf("the reset took %s", took)
	}
	if got := g.Sh(t, "ls /root/kept 2>&1 || true; systemctl is-system-running; systemctl is-active docker"); !strings.Contains(got, "No such file") || !strings.HasSuffix(got, "running\nactive\n") {
		t.Errorf("after the reset: %q", got)
	}
	// Signed requests are refused at minutes of difference.
	guest, err := time.Parse(time.RFC3339Nano, strings.TrimSpace(g.Sh(t, "date -u +%Y-%m-%dT%H:%M:%S.%NZ")))
	if off := time.Since(guest).Abs(); err != nil || off > 3*time.Second {
		t.Errorf("the guest's clock is %s off (%v)", off, err)
	}
	if !strings.Contains(g.Console(), "systemd") {
		t.Error("the console has not heard of systemd")
	}
}

func TestCommandsAndFiles(t *testing.T) {
	g := vmtest.New(t, vmtest.Spec{})
	result, err := g.Run(t.Context(), "echo out; echo err >&2; exit 7")
	if err != nil || result != (vmtest.Result{Stdout: "out\n", Stderr: "err\n", Status: 7}) {
		t.Errorf("got %+v, %v", result, err)
	}
	if result, err = g.Run(t.Context(), "kill -TERM $$"); err != nil || result.Status != 128+15 {
		t.Errorf("a command ended by a signal: %+v, %v", result, err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if _, err := g.Run(ctx, "sleep 1000"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a command beyond its deadline: %v", err)
	}

	from, to := t.TempDir(), t.TempDir()
	name := "a name, with 'quotes' and ü@"
	if err := os.MkdirAll(filepath.Join(from, name, "below"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(from, name, "below", name), []byte("text"), 0o640); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("below", filepath.Join(from, name, "link")); err != nil {
		t.Fatal(err)
	}
	if err := g.CopyIn(t.Context(), "/root/"+name, filepath.Join(from, name)); err != nil {
		t.Fatal(err)
	}
	if err := g.CopyOut(t.Context(), "/root/"+name+"/"+name, to); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.CommandContext(t.Context(), "diff", "-r", "--no-dereference", from, to).CombinedOutput(); err != nil {
		t.Errorf("what came back differs: %s", out)
	}
	if err := g.CopyIn(t.Context(), "/root", filepath.Join(from, "missing")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("copying a missing file: %v", err)
	}
}
