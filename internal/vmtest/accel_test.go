package vmtest

import (
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestProgressDecides watches programs that behave like a guest under an
// accelerator that works, one that hangs, and one that QEMU cannot use.
func TestProgressDecides(t *testing.T) {
	for _, guest := range []struct{ name, script, want string }{
		{"starts", `echo booting >$1; echo "Run /init as init process" >>$1; exec sleep 600`, ""},
		{"hangs at once", "exec sleep 600", "said nothing"},
		{"hangs later", "echo booting >$1; exec sleep 600", "said nothing"},
		{"never arrives", "while echo again; do sleep 0.05; done >>$1", "did not start"},
		{"dies", "exit 1", "QEMU ended"},
	} {
		t.Run(guest.name, func(t *testing.T) {
			said := console{filepath.Join(t.TempDir(), "console")}
			qemu, err := startProcess(exec.Command("sh", "-c", guest.script, "sh", said.path))
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = qemu.kill() }()
			silence, limit := 2*time.Second, time.Minute
			if guest.name == "never arrives" {
				silence, limit = limit, silence
			}
			err = watchStart(t.Context(), qemu, said, silence, limit)
			if (err == nil) != (guest.want == "") || err != nil && !strings.Contains(err.Error(), guest.want) {
				t.Errorf("got %v, want %q", err, guest.want)
			}
		})
	}
}
