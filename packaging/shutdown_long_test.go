//go:build outside && long

package packaging_test

import (
	"strings"
	"testing"
	"time"
)

// TestShutdown: nothing interrupts a window; a ship makes way and goes on after
// the boot; timers come from configuration and labels, and a missed run is made
// up for.
func TestShutdown(t *testing.T) {
	h := newHost(t)
	h.inHook()
	h.sh(inWindow)
	h.says(0, "systemd-inhibit --list --no-pager", "restore point of group two", "block", "delay")
	out, status := h.run("systemctl poweroff")
	if status == 0 {
		t.Fatal("root could power off in a window")
	}
	h.keep("poweroff-in-window", out)
	h.sh("kill -CONT $(systemctl show -P MainPID snapd-agent)")
	h.await(60*time.Second, `systemd-inhibit --list --no-pager --no-legend | grep -c snapd | grep -x 0`)
	h.says(0, writerFrozen, "0")

	// Timers: one of the configuration whose run was missed, one of a label.
	h.sh(`sed -i 's/^\[group.shop\]/[group.shop]\nschedule = "hourly"/' /etc/snapd-agent/snapd.toml && snapd schedule`)
	h.sh(`docker rm -f writer >/dev/null; docker run -d --restart always --name labelled --label snapd.enable=true --label snapd.schedule=minutely -v "/srv/data2/a b:/d" bb sh -c 'while :; do date >/d/log; sleep 1; done' >/dev/null`)
	h.sh(`sed -i '/^\[group.two\]/,$d' /etc/snapd-agent/snapd.toml; printf '[group.labelled]\nrepositories = []\n' >>/etc/snapd-agent/snapd.toml`)
	h.says(0, "snapd status", "labelled")
	h.await(60*time.Second, "systemctl is-active snapd-agent-run@labelled.timer")
	h.keep("timers", h.says(0, "systemctl list-timers --no-pager 'snapd*'; cat /run/systemd/system/snapd-agent-run@labelled.timer", "snapd-agent-run@shop.timer", "snapd-agent-run@labelled.timer"))
	h.await(150*time.Second, `snapd --json list labelled | jq -e '.points | length > 0'`)

	h.bigFile(300)
	h.sh("snapd run shop >/root/run.log 2>&1 &")
	h.await(120*time.Second, segments+` | wc -l | awk '{exit $1 < 4}'`)
	before := h.sh(segments)
	h.says(0, "systemd-inhibit --list --no-pager", "ships shop")
	// As if it had been off for hours: the stamp says when it ran last.
	h.sh("touch -d '3 hours ago' /var/lib/systemd/timers/stamp-snapd-agent-run@shop.timer; sync")
	if out, err := h.Run(t.Context(), "systemctl poweroff"); err == nil && out.Status != 0 {
		t.Fatalf("poweroff in a ship: %s", out.Stderr)
	}
	took := h.awaitOff(3 * time.Minute)
	log := h.sh(`journalctl -b -1 -o short-precise --no-pager | grep -E 'systemd-logind.*(power|Power|inhibit|Delay|lock)|snapd-agent\[|Stopping snapd-agent|Stopped snapd-agent|Stopping docker|Stopped docker|Unmounting srv|Unmounted srv|powering' | tail -40`)
	h.keep("shutdown-in-ship", "down after "+took.String()+"\n"+log)
	if strings.Contains(log, "inhibitor timeout") {
		t.Error("the delay lock was not released in time")
	}
	// The mounts have nofail, which local-fs.target knows nothing of.
	ended := strings.Index(log, "Stopped snapd-agent.service")
	for _, later := range []string{"Unmounting srv-data1.mount", "Unmounting srv-data2.mount", "Stopping docker.service"} {
		if at := strings.Index(log, later); ended < 0 || at < 0 || at < ended {
			t.Errorf("%s did not come after the agent had ended", later)
		}
	}
	if !strings.Contains(log, "this host is shutting down") {
		t.Error("the agent did not make way for the shutdown")
	}
	h.await(400*time.Second, `test $(snapd --json list shop | jq '[.points[] | select(.numbers.main > 0)] | length') -ge 2`)
	h.goneOn(before)
	h.keep("after-boot", h.says(0, "journalctl -b -u 'snapd-agent*' --no-pager | tail -60", "Restore point of group shop"))
	h.says(0, "systemctl list-timers --no-pager 'snapd*'", "snapd-agent-run@shop.timer")
	h.await(90*time.Second, "systemctl is-active snapd-agent-run@labelled.timer")
	h.await(150*time.Second, `test $(snapd --json list labelled | jq '.points | length') -gt 1`)
}

// inHook: the host stays up from before the first hook on.
func (h *host) inHook() {
	h.t.Helper()
	h.sh(`cat >>/etc/snapd-agent/snapd.toml <<'X'

[group.two.container.writer]
exec-before = "sh -c 'date >/one/in-hook; until test -e /one/go-on; do sleep 0.1; done'"
X
		sed -i 's/^\[group.two\]/[group.two]\nhook-timeout = "5m"/' /etc/snapd-agent/snapd.toml
		snapd snapshot two >/root/hook.log 2>&1 & `)
	h.await(30*time.Second, `test -e "/srv/data1/a b/in-hook"`)
	h.says(0, "systemd-inhibit --list --no-pager", "restore point of group two", "block")
	if out, status := h.run("systemctl poweroff"); status == 0 {
		h.t.Fatalf("root could power off while a hook ran: %s", out)
	}
	h.sh(`touch "/srv/data1/a b/go-on"`)
	h.await(60*time.Second, `systemd-inhibit --list --no-pager --no-legend | grep -c snapd | grep -x 0 && grep -w two /root/hook.log`)
	h.says(0, "cat /root/hook.log", "frozen")
	h.sh(`sed -i '/^\[group.two.container.writer\]/,$d' /etc/snapd-agent/snapd.toml`)
}
