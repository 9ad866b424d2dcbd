//go:build outside && long

package packaging_test

import (
	"fmt"
	"strconv"
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
// or by the next one. The idle time is as short as a call, so that every other
// one meets the end.
func TestCallsAroundTheEnd(t *testing.T) {
	h := newHost(t)
	h.sh("systemctl stop snapd-agent-look.timer snapd-agent-resume.timer snapd-agent.service")
	h.sh(`mkdir -p /run/systemd/system/snapd-agent.service.d
		printf '[Service]\nExecStart=\nExecStart=/usr/bin/snapd serve --idle 150ms\n' >/run/systemd/system/snapd-agent.service.d/short.conf
		systemctl daemon-reload`)
	var slowest time.Duration
	for i := range 30 {
		begin := time.Now()
		if out, status := h.run(fmt.Sprintf("sleep 0.%d; timeout 120 snapd list two", i%10)); status != 0 {
			t.Fatalf("call %d was lost after %v: %s\n%s", i, time.Since(begin), out, h.sh("journalctl -b -u snapd-agent -u snapd-agent.socket -n 60 --no-pager; systemctl status snapd-agent.socket --no-pager; true"))
		}
		slowest = max(slowest, time.Since(begin))
	}
	h.keep("slowest-of-thirty-calls", slowest.String())
	starts := h.sh(`journalctl -b -u snapd-agent -o cat --no-pager | grep -c '^Started snapd-agent'`)
	h.keep("agents-for-thirty-calls", starts)
	if n, err := strconv.Atoi(starts); err != nil || n < 10 {
		t.Errorf("only %s agents were started (%v)", starts, err)
	}
	if failed := h.sh("systemctl is-failed snapd-agent.service snapd-agent.socket || true"); failed != "inactive\nactive" && failed != "active\nactive" {
		t.Errorf("the units are %s", failed)
	}
}
