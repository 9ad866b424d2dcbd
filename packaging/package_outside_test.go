//go:build outside

package packaging_test

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
)

// TestInstalled is the package from its installation to its removal: what runs,
// which user may do what, and what it costs.
func TestInstalled(t *testing.T) {
	h := newHost(t)
	h.verified()
	security := h.exposure()
	h.keep("security", security)
	if enabled := h.sh("systemctl list-unit-files 'snapd-agent*' --state=enabled --no-legend | awk '{print $1}'"); enabled != "snapd-agent.socket" {
		t.Errorf("enabled: %s", enabled)
	}

	// The first call starts the agent, fifty share it, and it ends when idle.
	h.sh("systemctl stop snapd-agent.service snapd-agent-look.timer snapd-agent-resume.timer; systemctl is-active snapd-agent.socket")
	h.says(0, "snapd --json snapshot shop", `"consistency":"crash"`)
	h.says(0, "snapd snapshot two", "frozen")
	h.says(0, `systemctl show -P StatusText snapd-agent`, "Idle; ends when no call has come for 1m0s")
	pid := h.sh("systemctl show -P MainPID snapd-agent")
	h.says(0, `for i in $(seq 50); do snapd list >/tmp/out.$i 2>&1 || echo "call $i failed: $(cat /tmp/out.$i)" & done; wait; cat /tmp/out.* | grep -c crash | grep -x 50`)
	if out, _ := h.run(`for i in $(seq 50); do snapd list >/tmp/out.$i 2>&1 || echo "call $i failed: $(cat /tmp/out.$i)" & done; wait`); strings.Contains(out, "failed") {
		t.Error("not all of fifty calls at once were answered")
	}
	if now := h.sh("systemctl show -P MainPID snapd-agent"); now != pid {
		t.Errorf("process %s answers, and %s before", now, pid)
	}
	time.Sleep(6 * time.Second) // it gives memory back when its loop sees that no call comes
	rss := h.sh(`awk '/^VmRSS/ {print $2}' /proc/` + pid + `/status`)
	h.keep("idle-memory-kib", rss)
	if kib, err := strconv.Atoi(rss); err != nil || kib > 25<<10 {
		t.Errorf("resident while idle: %s KiB (%v)", rss, err)
	}
	idle := h.await(90*time.Second, "! systemctl is-active --quiet snapd-agent.service && ! pgrep -x snapd")
	h.keep("idle-seconds", idle.String())
	if result := h.sh("systemctl show -P Result snapd-agent"); result != "success" {
		t.Errorf("it ended with %s", result)
	}

	h.users()

	h.says(0, "journalctl -o json SNAPD_GROUP=two --no-pager | tail -3", "SNAPD_POINT", "SNAPD_WINDOW_US", "SNAPD_DATASET", "SNAPD_BYTES")
	h.says(0, "snapd doctor; true", "agent")

	// Removal leaves data and configuration; purging takes the configuration.
	h.sh("dpkg -r snapd-agent")
	h.sh(`test -f /etc/snapd-agent/snapd.toml && test -f /etc/snapd-agent/snapd.toml.example && test -d /var/lib/snapd-agent/points && ! test -e /run/systemd/system/snapd-agent.service.d && ! systemctl is-active snapd-agent.socket && ! systemctl list-timers | grep snapd`)
	if n := h.sh("btrfs subvolume list -s /srv/data1 | grep -c snapd_"); n == "0" {
		t.Error("removal took the snapshots")
	}
	h.says(0, "dpkg -P snapd-agent", "left in /etc/snapd-agent: signing.key")
	h.sh("! test -e /etc/snapd-agent/snapd.toml && ! test -e /etc/snapd-agent/snapd.toml.example && ! test -e /var/lib/snapd-agent && test -f /etc/snapd-agent/signing.key")
}

// verified has systemd look at all units.
func (h *host) verified() {
	h.t.Helper()
	if out, status := h.run("systemd-analyze verify --man=no /usr/lib/systemd/system/snapd-agent*"); status != 0 || strings.TrimSpace(out) != "" {
		h.t.Errorf("systemd-analyze verify is not clean: %s", out)
	}
}

// exposure is systemd's figure for the agent's sandbox, which is 4.0 at most.
func (h *host) exposure() string {
	h.t.Helper()
	security := h.sh("systemd-analyze security snapd-agent.service --no-pager | tail -1")
	if m := regexp.MustCompile(`: ([0-9.]+) `).FindStringSubmatch(security); m == nil {
		h.t.Errorf("no figure in %q", security)
	} else if f, err := strconv.ParseFloat(m[1], 64); err != nil || f > 4 {
		h.t.Errorf("exposure %s (%v)", m[1], err)
	}
	return security
}

// users tries every call as an ordinary user, as a member of the group, and as
// root, and keeps the table.
func (h *host) users() {
	h.t.Helper()
	h.sh("useradd -m eve; useradd -m -G snapd-agent mary; sleep 0")
	calls := []string{
		"status", "list", "show latest", "snapshot shop", "snapshot --ship shop", "ship", "run shop", "run --no-snapshot shop", "prune", "prune --dry-run",
		"reload", "doctor", "schedule", "thaw", "verify", "init", "--config /etc/snapd-agent/snapd.toml list", "restore latest --to btrfs:/srv/data1/r",
		"version", "completion bash",
	}
	may := map[string]map[string]bool{
		"eve":  {"version": true, "completion bash": true},
		"mary": {"status": true, "list": true, "show latest": true, "snapshot shop": true, "version": true, "completion bash": true},
		"root": {},
	}
	for _, c := range calls {
		may["root"][c] = true
	}
	h.await(70*time.Second, `test $(( $(date +%s) - $(date -d "$(snapd --json show latest:shop | jq -r .time)" +%s) )) -gt 61`)
	var table strings.Builder
	for _, call := range calls {
		for _, user := range []string{"eve", "mary", "root"} {
			out, status := h.run(fmt.Sprintf("setpriv --reuid=%s --regid=$(id -g %[1]s) --init-groups snapd %s 2>&1 | tail -3; exit ${PIPESTATUS[0]}", user, call))
			first, _, _ := strings.Cut(strings.TrimSpace(out), "\n")
			table.WriteString(user + "\tsnapd " + call + "\t" + strconv.Itoa(status) + "\t" + first + "\n")
			done := status == 0 || user == "root" && !strings.Contains(out, "only root")
			if done != may[user][call] {
				h.t.Errorf("%s: snapd %s: exit status %d: %s", user, call, status, out)
			}
			if user == "eve" && !done && !strings.Contains(out, "only root") {
				h.t.Errorf("eve is not told why: snapd %s: %s", call, out)
			}
		}
	}
	// The socket itself, without our client in between.
	const raw = `curl -s --max-time 20 --unix-socket /run/snapd-agent/agent.sock -d '%s' http://x/v1/%s`
	if out, status := h.run("runuser -u mary -- " + fmt.Sprintf(raw, `{"groups":["shop"],"steps":{"prune":true}}`, "do")); status != 0 || !strings.Contains(out, "only root") {
		h.t.Errorf("mary prunes with curl: %s", out)
	}
	if out, status := h.run("runuser -u eve -- " + fmt.Sprintf(raw, "{}", "status")); status == 0 {
		h.t.Errorf("eve reaches the socket: %s", out)
	}
	if out, _ := h.run("snapd snapshot shop; runuser -u mary -- snapd snapshot shop"); !strings.Contains(out, "one a minute") {
		h.t.Errorf("mary is not limited: %s", out)
	}
	h.keep("users", table.String())
}
