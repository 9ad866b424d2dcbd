//go:build outside

package main

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"snapd/internal/vmtest"
)

// zfsGuest is a guest with a pool, a dataset, and a group of it.
func zfsGuest(t *testing.T) *vmtest.Guest {
	t.Helper()
	bin := filepath.Join(t.TempDir(), "snapd")
	build := exec.CommandContext(t.Context(), "go", "build", "-o", bin, ".")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build: %v: %s", err, out)
	}
	g := vmtest.New(t, vmtest.Spec{})
	if err := g.CopyIn(t.Context(), "/usr/local/sbin", bin); err != nil {
		t.Fatal(err)
	}
	g.Sh(t, `set -e
		systemctl disable --now --quiet docker.socket docker
		truncate -s 2G /srv/disk
		zpool create -O mountpoint=/tank -O compression=off tank /srv/disk
		zfs create tank/data
		head -c 24M /dev/urandom >/tank/data/first
		snapd init --repository file:///srv/repository --kit /root/kit >&2
		printf '[group.data]\npaths = ["/tank/data"]\nkeep-local = "1s"\nkeep = "50 last"\n' >>/etc/snapd-agent/snapd.toml
		snapd snapshot --ship data >&2
		sync; zpool sync`)
	return g
}

// cutWhile cuts the power some time after a command was begun and reached a
// state that the script ready waits for.
func cutWhile(t *testing.T, g *vmtest.Guest, command, ready string, after time.Duration) {
	t.Helper()
	g.Sh(t, fmt.Sprintf("(setsid sh -c %s >/dev/null 2>&1 &) ; %s", quote(command), ready))
	time.Sleep(after)
	if err := g.CutPower(); err != nil {
		t.Fatal(err)
	}
	if err := g.PowerOn(t.Context()); err != nil {
		t.Fatal(err)
	}
	g.Sh(t, "zpool list tank >/dev/null 2>&1 || zpool import -d /srv tank; zfs mount tank/data 2>/dev/null; test -e /tank/data/first")
}

func quote(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }

// powerCut is one: what runs, what is waited for, and how long after.
type powerCut struct {
	name, command, ready string
	after                time.Duration
}

func powerCuts() []powerCut {
	waitFor := func(condition string) string {
		return "for n in $(seq 6000); do if " + condition + "; then exit 0; fi; sleep 0.02; done; exit 1"
	}
	return []powerCut{
		{"in the middle of an upload", "snapd ship data", waitFor("test $(ls /srv/repository/data/*/* | wc -l) -gt $(cat /root/before)"), 100 * time.Millisecond},
		{"in the middle of a receive", "snapd --kit /root/kit restore latest --to zfs:tank/back", waitFor("zfs list -H -o name -r tank | grep -q snapd_restore_"), 300 * time.Millisecond},
		{"when holds were taken", "snapd ship data", waitFor("zfs list -H -t snapshot -o name -r tank/data | xargs zfs holds -H | grep -q snapd_ship_"), 0},
		{"in the middle of a snapshot", "snapd snapshot data", waitFor("test -n \"$(ls /var/lib/snapd-agent/taking)\""), 0},
		{"late in a receive", "snapd --kit /root/kit restore latest --to zfs:tank/back", waitFor("zfs list -H -t snapshot -o name -r tank | grep -q snapd_restore_"), 50 * time.Millisecond},
	}
}

// TestZFSPowerCut cuts the power once; TestZFSPowerCuts does at five places.
func TestZFSPowerCut(t *testing.T) { cutPower(t, powerCuts()[:1]) }

// cutPower: whatever was cut, the guest boots, and the next run completes:
// nothing that is not whole is listed, no hold is left, no dataset half built.
func cutPower(t *testing.T, cuts []powerCut) {
	g := zfsGuest(t)
	for i, c := range cuts {
		g.Sh(t, fmt.Sprintf("head -c 30M /dev/urandom >'/tank/data/more %d'; zpool sync", i))
		if !strings.Contains(c.command, "snapshot") {
			g.Sh(t, "snapd snapshot data >&2; sync")
		}
		if strings.Contains(c.command, "restore") {
			g.Sh(t, "snapd ship data >&2; sync")
		}
		listed := len(listedIn(t, g))
		g.Sh(t, "ls /srv/repository/data/*/* | wc -l >/root/before; sync")
		cutWhile(t, g, c.command, c.ready, c.after)
		if got := len(listedIn(t, g)); got != listed {
			t.Errorf("%s: %d points are listed, want %d", c.name, got, listed)
		}
		if out := g.Sh(t, "zfs list -H -o name tank/back 2>/dev/null; true"); strings.TrimSpace(out) != "" {
			t.Errorf("%s: the target is there: %s", c.name, out)
		}
		g.Sh(t, "snapd run data >&2 && snapd --kit /root/kit verify --deep >&2")
		g.Sh(t, `snapd --kit /root/kit restore latest --to zfs:tank/back >&2 && zfs mount tank/back && diff -r /tank/data /tank/back && zfs destroy -r tank/back`)
		left := g.Sh(t, `zfs list -H -t all -o name -r tank | grep snapd_restore_; zfs list -H -t snapshot -o name -r tank | xargs zfs holds -H; zfs list -H -o name tank/back 2>/dev/null; true`)
		if left = strings.TrimSpace(left); left != "" {
			t.Errorf("%s: left behind: %s", c.name, left)
		}
		resumed := g.Sh(t, `snapd --json list | jq -r '.points[-2:][].shipped[].resumed // empty'`)
		t.Logf("%s: survived; %s", c.name, strings.TrimSpace(resumed))
	}
}

func listedIn(t *testing.T, g *vmtest.Guest) []json.RawMessage {
	t.Helper()
	var doc struct{ Points []json.RawMessage }
	out := g.Sh(t, "snapd --json --kit /root/kit list")
	if err := json.Unmarshal([]byte(out), &doc); err != nil {
		t.Fatalf("%v in %s", err, out)
	}
	return doc.Points
}
