//go:build guest

package host_test

import (
	"os/exec"
	"strings"
	"testing"

	"snapd/internal/host"
	"snapd/internal/vmtest"
)

// TestInhibit sees the locks as logind lists them, and has it refuse to shut
// the machine down.
func TestInhibit(t *testing.T) {
	vmtest.Inside(t)
	list := func() string {
		out, err := exec.CommandContext(t.Context(), "systemd-inhibit", "--list", "--no-legend", "--no-pager").CombinedOutput()
		if err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		return string(out)
	}
	held, err := host.Inhibit("restore point of group shop")
	if err != nil {
		t.Fatal(err)
	}
	for _, mode := range []string{"block", "delay"} {
		if !strings.Contains(list(), mode) || !strings.Contains(list(), "restore point of group shop") {
			t.Errorf("no %s lock in\n%s", mode, list())
		}
	}
	if out, err := exec.CommandContext(t.Context(), "systemctl", "poweroff", "--check-inhibitors=yes").CombinedOutput(); err == nil {
		t.Errorf("the machine was told to power off under a block lock: %s", out)
	}
	if err := held.Release(); err != nil {
		t.Fatal(err)
	}
	if err := held.Release(); err != nil {
		t.Errorf("releasing twice: %v", err)
	}
	if strings.Contains(list(), "restore point of group shop") {
		t.Errorf("still locked:\n%s", list())
	}
}
