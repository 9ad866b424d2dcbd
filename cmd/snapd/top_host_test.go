//go:build host

package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"snapd/internal/workload/dockertest"
)

// TestTheTopOfAFilesystemIsBound: a container that has all of a Btrfs filesystem
// sees our snapshots, and what its entrypoint changes everywhere fails on them at
// its next start. It is said before, once by run and always by doctor and status,
// and what is advised helps.
func TestTheTopOfAFilesystemIsBound(t *testing.T) {
	h := newHost(t, "")
	docker := startDocker(t, h)
	h.subvolume("db data")
	entrypoint := "busybox rm -f /data/status; busybox chown -R 999:999 /data 2>/data/said; echo $? >/data/status; exec sleep 1000000"
	begin := func(hide ...dockertest.Mount) string {
		id, err := docker.Run(t.Context(), dockertest.Spec{
			Name: "db", Signal: "SIGKILL", Mounts: append([]dockertest.Mount{{Source: h.btrfs, Target: "/data"}}, hide...),
			Cmd: []string{"sh", "-c", entrypoint},
		})
		if err != nil {
			t.Fatal(err)
		}
		return id
	}
	status := func() (ended, said string) {
		until(t, "the entrypoint is over", func() bool {
			text, _ := os.ReadFile(filepath.Join(h.btrfs, "status"))
			ended = strings.TrimSpace(string(text))
			return ended != ""
		})
		text, err := os.ReadFile(filepath.Join(h.btrfs, "said"))
		if err != nil {
			t.Fatal(err)
		}
		return ended, string(text)
	}
	h.configure("[group.db]\ncontainers = [\"db\"]\nfreeze = \"none\"\nkeep-local = \"1h\"")
	id := begin()
	if ended, said := status(); ended != "0" {
		t.Fatalf("before the first snapshot: %s: %s", ended, said)
	}
	const warning = "container db has the top of a Btrfs filesystem mounted at /data, and sees /data/.snapd-agent"
	const do = "a tmpfs at /data/.snapd-agent"
	if out, _, _ := h.snapd("doctor"); !strings.Contains(flat(out), warning) || !strings.Contains(flat(out), do) {
		t.Error("doctor does not say it")
	}
	if _, errs, _ := h.snapd("run", "db"); !strings.Contains(flat(errs), warning) || !strings.Contains(flat(errs), do) {
		t.Error("the first run does not say it")
	}
	if _, errs, _ := h.snapd("run", "db"); strings.Contains(flat(errs), warning) {
		t.Error("the second run says it again")
	}
	if out := h.must("status"); !strings.Contains(flat(out), warning) {
		t.Error("status does not say it")
	}

	// What happens at the next start, and what is said then.
	restart := func(id string, hide ...dockertest.Mount) string {
		if err := docker.Remove(t.Context(), id); err != nil {
			t.Fatal(err)
		}
		if err := os.Remove(filepath.Join(h.btrfs, "status")); err != nil {
			t.Fatal(err)
		}
		return begin(hide...)
	}
	id = restart(id)
	ended, said := status()
	t.Logf("chown -R ended with %s: %s", ended, said)
	if ended == "0" || !strings.Contains(said, "Read-only file system") {
		t.Errorf("chown -R ended with %s: %s", ended, said)
	}
	h.refused(1, []string{"run", "db"}, "is not root's alone (owner 999", "mount a subvolume there in place of the top")

	// What was advised.
	ours := filepath.Join(h.btrfs, ".snapd-agent")
	command(t, "chown", "root:root", ours)
	command(t, "chmod", "700", ours)
	id = restart(id, dockertest.Mount{Target: "/data/.snapd-agent"})
	if ended, said := status(); ended != "0" {
		t.Errorf("with a tmpfs there: %s: %s", ended, said)
	}
	if _, errs, ended := h.snapd("run", "db"); ended != 0 || strings.Contains(flat(errs), warning) {
		t.Errorf("with a tmpfs there: exit status %d", ended)
	}
	if err := docker.Remove(t.Context(), id); err != nil {
		t.Fatal(err)
	}
}

// flat is a text without the breaks of its lines.
func flat(text string) string { return strings.Join(strings.Fields(text), " ") }
