//go:build outside && long

package packaging_test

import (
	"strings"
	"testing"
	"time"
)

// TestKilled: SIGKILL for everything in the agent's cgroup, in the window and in
// a ship.
func TestKilled(t *testing.T) {
	h := newHost(t)
	h.sh(inWindow)
	h.sh("systemctl kill -s KILL snapd-agent.service")
	took := h.await(60*time.Second, writerFrozen+` | grep -x 0`)
	h.keep("thawed-after-kill", took.String())
	h.await(30*time.Second, `! ls /run/snapd-agent/window-*`)
	h.says(0, "systemctl show -P Result snapd-agent.service; journalctl -b -u snapd-agent -u snapd-agent-thaw -n 20 --no-pager", "signal")
	h.says(0, "snapd snapshot two", "frozen")

	h.aloneKilled()
	h.stuck()

	// In a ship: the next one begins by itself, and sends only what is missing.
	h.bigFile(200)
	h.sh("snapd run shop >/root/run.log 2>&1 &")
	h.await(120*time.Second, segments+` | wc -l | awk '{exit $1 < 3}'`)
	before := h.sh(segments)
	h.sh("systemctl kill -s KILL snapd-agent.service")
	h.await(300*time.Second, `snapd --json list shop | jq -e '.points[-1].numbers.main > 0'`)
	h.goneOn(before)
	h.says(0, "cat /root/run.log", "the agent ended before it answered")
}

// aloneKilled: when the agent itself is killed, as by the kernel when memory runs
// out, its guard lives on and thaws, without waiting for systemd.
func (h *host) aloneKilled() {
	h.t.Helper()
	h.sh(inWindow)
	out := h.sh(`guard=$(pgrep -o -f '^snapd-guard ') && begin=$(date +%s%N) && systemctl kill --kill-whom=main -s KILL snapd-agent.service && until ` + writerFrozen + ` | grep -qx 0; do :; done
		echo $((($(date +%s%N) - begin) / 1000000)) ms; until ! [ -e /proc/$guard ]; do sleep 0.1; done`)
	h.keep("thawed-by-guard", out)
	h.await(30*time.Second, `! ls /run/snapd-agent/window-*`)
	h.await(30*time.Second, "systemctl show -P Result snapd-agent.service | grep -x signal")
	h.says(0, "snapd snapshot two", "frozen")
}

// stuck: an agent whose loop hangs in a window is ended by the watchdog, and the
// container that it had frozen runs again.
func (h *host) stuck() {
	h.t.Helper()
	h.sh(`mkdir -p /run/systemd/system/snapd-agent.service.d && printf '[Service]\nWatchdogSec=10s\n' >/run/systemd/system/snapd-agent.service.d/90-watchdog.conf
		systemctl daemon-reload && systemctl stop snapd-agent.service`)
	h.sh(inWindow)
	took := h.await(60*time.Second, writerFrozen+` | grep -x 0`)
	h.keep("thawed-by-watchdog", took.String())
	h.await(60*time.Second, "systemctl show -P Result snapd-agent.service | grep -x watchdog")
	h.await(60*time.Second, `! ls /run/snapd-agent/window-*`)
	h.sh("rm /run/systemd/system/snapd-agent.service.d/90-watchdog.conf && systemctl daemon-reload")
	h.says(0, "snapd snapshot two", "frozen")
	h.sh("systemctl stop snapd-agent.service")
}

// goneOn checks that a ship that was interrupted went on.
func (h *host) goneOn(before string) {
	h.t.Helper()
	after := h.sh(segments)
	for _, name := range strings.Fields(before) {
		if !strings.Contains(after, name) {
			h.t.Errorf("segment %s is gone", name)
		}
	}
	was, _ := resent(before)
	all, twice := resent(after)
	h.keep("segments", "before: "+before+"\nafter: "+after)
	h.t.Logf("%d segments before, %d after, of which %d were sent twice", was, all, twice)
	if twice > 5 { // three encryptions and two puts
		h.t.Errorf("%d segments were sent twice", twice)
	}
	if all <= was {
		h.t.Errorf("it was over before it was interrupted: %d segments before, %d after", was, all)
	}
	h.says(0, "snapd verify", "")
}

// TestRestartAndUpgradeInAShip: a command that waits for the ship gets its result.
func TestRestartAndUpgradeInAShip(t *testing.T) {
	h := newHost(t)
	h.sh(`mkdir /root/next && dpkg-deb -R /root/snapd-agent.deb /root/next && sed -i 's/^Version: .*/Version: 0.1.1/' /root/next/DEBIAN/control && dpkg-deb -b /root/next /root/next.deb`)
	h.bigFile(1500)
	// Each step is one line in the guest: a line from outside needs seconds, and
	// the ship would be over.
	until := func(n string) string {
		return `until [ $(` + segments + ` | wc -l) -ge $((` + n + `)) ]; do [ ! -e /root/run.status ] || { cat /root/run.*; exit 1; }; sleep 0.1; done >&2; `
	}
	pid := h.sh(`(snapd --json run shop >/root/run.json 2>/root/run.log; echo $? >/root/run.status) >/dev/null 2>&1 &
		` + until("3") + `(` + segments + `) >/root/before
		systemctl show -P MainPID snapd-agent; systemctl restart snapd-agent.service`)
	before := h.sh("cat /root/before")
	h.says(0, until("$(wc -l </root/before) + 2")+
		`test $(systemctl show -P MainPID snapd-agent) != `+pid+` && ! test -e /root/run.status && dpkg -i /root/next.deb`, "Setting up snapd-agent (0.1.1)")
	h.await(300*time.Second, "test -e /root/run.status")
	h.says(0, "cat /root/run.status /root/run.json /root/run.log; grep -x 0 /root/run.status", `"numbers":{"main":1}`)
	h.says(0, "grep -c 'the next one goes on' /root/run.log", "1") // a warning is shown once
	// The restart, and the upgrade.
	h.says(0, "journalctl -b -u snapd-agent.service | grep -c 'is being restarted; calls under way are ended'", "2")
	h.goneOn(before)
	h.says(0, "dpkg-query -W snapd-agent", "0.1.1")
}
