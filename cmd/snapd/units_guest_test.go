//go:build guest

package main

import (
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"snapd/internal/point"
	"snapd/internal/vmtest"
)

func guestShell(t *testing.T, line string) string {
	t.Helper()
	out, err := exec.CommandContext(context.WithoutCancel(t.Context()), "bash", "-euo", "pipefail", "-c", line).CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", line, err, out)
	}
	return string(out)
}

// TestUnitsStandStill takes a point of two systemd units that write to two
// subvolumes, one of them in a slice of its own and after the other.
func TestUnitsStandStill(t *testing.T) {
	vmtest.Inside(t)
	dir := t.TempDir()
	guestShell(t, "cd "+dir+`
truncate -s 1G image; mkfs.btrfs -q image; mkdir data; mount -o loop image data
btrfs -q subvolume create data/a; btrfs -q subvolume create data/b
systemd-run -q --unit=snapd-test-b --slice=snapdtest.slice sh -c 'while :; do echo x >>`+dir+`/data/b/log; done'
systemd-run -q --unit=snapd-test-a --property=After=snapd-test-b.service sh -c 'while :; do echo x >>`+dir+`/data/a/log; done'`)
	t.Cleanup(func() {
		guestShell(t, "systemctl stop snapd-test-a snapd-test-b; umount -l "+dir+"/data")
	})
	file := filepath.Join(dir, "snapd.toml")
	if err := os.WriteFile(file, []byte("[group.u]\nunits = [\"snapd-test-b\", \"snapd-test-a.service\"]\npaths = [\""+dir+"/data/a\", \""+dir+"/data/b\"]\nrepositories = []\nmax-window = \"60s\"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	snapd := func(words ...string) (string, error) {
		cmd := exec.CommandContext(t.Context(), "snapd", append([]string{"--config", file, "--state-dir", dir + "/state", "--run-dir", "/run/snapd-test-units"}, words...)...)
		cmd.Env = append(os.Environ(), "DOCKER_HOST=unix:///nowhere.sock")
		out, err := cmd.CombinedOutput()
		t.Logf("$ snapd %s\n%s", strings.Join(words, " "), out)
		return string(out), err
	}
	out, err := snapd("--json", "snapshot", "u")
	if err != nil {
		t.Fatal(err)
	}
	var doc pointsDocument
	if err := json.Unmarshal([]byte(out[strings.Index(out, "{"):]), &doc); err != nil || len(doc.Points) != 1 {
		t.Fatal(err)
	}
	p := doc.Points[0]
	if p.Consistency != point.Frozen || len(p.Members) != 2 || p.Members[0] != (point.Member{Kind: "unit", Name: "snapd-test-a.service", How: "cgroup"}) || len(p.Warnings) > 0 {
		t.Errorf("%s, %+v, %v", p.Consistency, p.Members, p.Warnings)
	}
	for _, u := range []string{"a", "b"} {
		log := filepath.Join(dir, "data", u, "log")
		before := fileLength(t, log)
		for fileLength(t, log) == before {
			if err := t.Context().Err(); err != nil {
				t.Fatal("it does not go on")
			}
		}
	}
	for unit, why := range map[string]string{"docker.service": "which snapd needs", "no-such-unit": "there is no unit no-such-unit.service", "init.scope": "which snapd needs", "system.slice": "must never be frozen"} {
		text := "[group.u]\nunits = [\"" + unit + "\"]\npaths = [\"" + dir + "/data/a\"]\nrepositories = []\nfreeze = \"freeze\"\n"
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if unit == "docker.service" {
			guestShell(t, "systemctl start docker")
		}
		if out, err := snapd("snapshot", "u"); err == nil || !strings.Contains(out, why) {
			t.Errorf("%s: %v: %s", unit, err, out)
		}
	}
}

func fileLength(t *testing.T, name string) int64 {
	t.Helper()
	st, err := os.Stat(name)
	if err != nil {
		t.Fatal(err)
	}
	return st.Size()
}
