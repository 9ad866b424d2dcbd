//go:build host

package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"testing"

	"snapd/internal/workload/dockertest"

	systemd "snapd/internal/host"

	"golang.org/x/sys/unix"
)

// TestCapabilitiesOfTheUnit takes points of what belongs to other users than root,
// as a user of the host or of a user namespace, with the capabilities of the agent's
// unit and no other, and then with one less.
func TestCapabilitiesOfTheUnit(t *testing.T) {
	h := newHost(t, "")
	docker := startDocker(t, h)
	var data []string
	for i, name := range []string{"own", "of a namespace"} {
		dir := h.subvolume(name)
		command(t, "chown", []string{"999", "100999"}[i], dir)
		command(t, "chmod", "0700", dir)
		data = append(data, dir)
	}
	command(t, "chown", "999", h.btrfs) // where the folder of snapshots is made
	_, err := docker.Run(t.Context(), dockertest.Spec{
		Name: "app", Mounts: []dockertest.Mount{{Source: data[0], Target: "/data"}, {Source: data[1], Target: "/space"}},
		Change: dockertest.As("999"),
	})
	if err != nil {
		t.Fatal(err)
	}
	h.configure(`[group.all]
containers = ["app"]
hook-timeout = "2s"
[group.all.container.app]
hold = "sh -c 'echo locked; cat'"
exec-before = "sh -c 'test ! -e /data/hang || exec sleep 1234'"`)
	hang := func(t *testing.T) {
		if err := os.WriteFile(data[0]+"/hang", nil, 0o644); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			_ = os.Remove(data[0] + "/hang")
			for _, pid := range hanging() {
				_ = unix.Kill(pid, unix.SIGKILL)
			}
		})
	}
	if out, status := h.with(t, "", "run", "all"); status != 0 || !strings.Contains(out, "quiesced") || strings.Contains(out, "WARN") {
		t.Fatalf("with all of them: exit status %d: %s", status, out)
	}
	t.Run("a hook that hangs", func(t *testing.T) {
		hang(t)
		out, status := h.with(t, "", "snapshot", "all")
		if status == 0 || !strings.Contains(out, "it was ended because it took too long") || len(hanging()) > 0 {
			t.Errorf("exit status %d, %v run: %s", status, hanging(), out)
		}
	})
	t.Run("a process of the host", func(t *testing.T) {
		writer := exec.Command("sh", "-c", "exec 3>>'"+data[1]+"/log'; echo open; exec sleep 60")
		said, err := writer.StdoutPipe()
		if err == nil {
			err = writer.Start()
		}
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			_ = writer.Process.Kill()
			_ = writer.Wait()
		})
		if _, err := said.Read(make([]byte, 4)); err != nil {
			t.Fatal(err)
		}
		if out, status := h.with(t, "", "snapshot", "all"); status != 0 || !strings.Contains(out, "separate") || !strings.Contains(out, "sleep") {
			t.Errorf("exit status %d: %s", status, out)
		}
	})
	if out, status := h.with(t, "", "snapshot", "all"); status != 0 {
		t.Fatalf("a lock stays: exit status %d: %s", status, out)
	}
	for _, c := range []struct{ less, says string }{
		{"CAP_SYS_ADMIN", "operation not permitted"},
		{"CAP_DAC_OVERRIDE", "permission denied"},
		{"CAP_FOWNER", "operation not permitted"},
		{"CAP_SYS_PTRACE", "could not be looked at: the right to do so is missing"},
		{"CAP_KILL", "without CAP_KILL"},
	} {
		t.Run("without "+c.less, func(t *testing.T) {
			if c.less == "CAP_KILL" {
				hang(t)
			}
			out, status := h.with(t, c.less, "run", "all")
			if status == 0 && c.less != "CAP_SYS_PTRACE" || !strings.Contains(strings.ToLower(out), strings.ToLower(c.says)) {
				t.Errorf("exit status %d, and it does not say %q: is %s needed?", status, c.says, c.less)
			}
			if c.less == "CAP_SYS_PTRACE" {
				// From about Linux 6.15 on CAP_SYS_ADMIN lets environments be read too.
				if out, _ := h.with(t, "CAP_SYS_PTRACE CAP_SYS_ADMIN", "thaw"); !strings.Contains(out, "may run a hook or keep a lock") {
					t.Errorf("thaw does not say what it cannot tell: %s", out)
				}
			}
			if c.less == "CAP_KILL" && (len(hanging()) == 0 || !strings.Contains(out, "could not be ended")) {
				t.Errorf("it is said to be ended, and %v run: %s", hanging(), out)
			}
		})
	}
}

// hanging are the processes of the hook that hangs.
func hanging() (pids []int) {
	out, _ := exec.Command("pgrep", "-u", "999", "-f", "^sleep 1234").Output()
	for word := range strings.FieldsSeq(string(out)) {
		if pid, err := strconv.Atoi(word); err == nil {
			pids = append(pids, pid)
		}
	}
	return pids
}

// with runs the program with the capabilities of the agent's unit, less some.
func (h *host) with(t *testing.T, less string, words ...string) (out string, status int) {
	t.Helper()
	set := []string{"-all"}
	for _, r := range systemd.Rights() {
		if name, is := strings.CutPrefix(r.Value, "CAP_"); is && !slices.Contains(strings.Fields(less), r.Value) {
			set = append(set, "+"+strings.ToLower(name))
		}
	}
	if want := 8 - len(strings.Fields(less)); len(set) != want {
		t.Fatalf("the capabilities are %v", set)
	}
	args := slices.Concat([]string{"--no-new-privs", "--bounding-set", strings.Join(set, ","), "snapd"}, h.args(words))
	cmd := exec.CommandContext(t.Context(), "setpriv", args...)
	cmd.Env = append(os.Environ(), h.env...)
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	err := cmd.Run()
	if cmd.ProcessState == nil {
		t.Fatal(err)
	}
	t.Logf("without %q: snapd %s\n%s[exit status %d]", less, strings.Join(words, " "), &said, cmd.ProcessState.ExitCode())
	return fmt.Sprint(&said), cmd.ProcessState.ExitCode()
}
