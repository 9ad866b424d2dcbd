//go:build outside && long

package packaging_test

import (
	"strconv"
	"strings"
	"testing"
	"time"
)

// TestManyCalls: fifty snapshots at once are all taken, by one agent.
func TestManyCalls(t *testing.T) {
	h := newHost(t)
	h.sh("systemctl stop snapd-agent-look.timer snapd-agent-resume.timer snapd-agent.service")
	began := time.Now()
	h.says(0, `for i in $(seq 50); do (snapd --json snapshot shop >/tmp/out.$i 2>/tmp/err.$i || echo "call $i failed: $(cat /tmp/out.$i /tmp/err.$i)") & done; wait
		cat /tmp/out.* | jq -r '.points[].id' | sort -u | wc -l | grep -x 50`)
	h.keep("fifty-snapshots", time.Since(began).String())
	h.says(0, `test $(snapd --json list shop | jq '.points | length') -ge 50`)
	h.says(0, `journalctl -b -u snapd-agent -o cat --no-pager | grep -c '^Started snapd-agent' | grep -x 1`)
	h.await(90*time.Second, "! systemctl is-active --quiet snapd-agent.service")
}

// TestCallsAroundTheEnd: a call that comes while an agent ends is answered by it
// or by the next one. The idle time is as short as a call, so that many meet the
// end.
func TestCallsAroundTheEnd(t *testing.T) {
	h := newHost(t)
	h.sh("systemctl stop snapd-agent-look.timer snapd-agent-resume.timer snapd-agent.service")
	h.sh(`mkdir -p /run/systemd/system/snapd-agent.service.d
		printf '[Service]\nExecStart=\nExecStart=/usr/bin/snapd serve --idle 150ms\n' >/run/systemd/system/snapd-agent.service.d/short.conf
		systemctl daemon-reload`)
	out := h.sh(`for i in $(seq 0 29); do
			sleep 0.$((i % 10)); met=$(systemctl show -P ActiveState snapd-agent.service); begin=$(date +%s%N)
			timeout 120 snapd list two >/tmp/call 2>&1; status=$?
			echo "call $i met an agent that was $met, and ended with $status after $((($(date +%s%N) - begin) / 1000000)) ms"
			[ $status = 0 ] || { cat /tmp/call; journalctl -b -u snapd-agent -u snapd-agent.socket -n 60 --no-pager; systemctl status snapd-agent.socket --no-pager; break; }
		done`)
	h.keep("thirty-calls", out)
	if n := strings.Count(out, "and ended with 0 after"); n != 30 {
		t.Errorf("%d of thirty calls were answered", n)
	}
	if n := strings.Count(out, "that was deactivating"); n < 3 {
		t.Errorf("only %d calls met an agent that ended", n)
	}
	starts := h.sh(`journalctl -b -u snapd-agent -o cat --no-pager | grep -c '^Started snapd-agent'`)
	h.keep("agents-for-thirty-calls", starts)
	if n, err := strconv.Atoi(starts); err != nil || n < 10 {
		t.Errorf("only %s agents were started (%v)", starts, err)
	}
	h.says(0, "systemctl is-active snapd-agent.socket && ! systemctl is-failed --quiet snapd-agent.service")
}
