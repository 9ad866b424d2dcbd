package doctor

import (
	"context"
	"fmt"

	"snapd/internal/agent"

	systemd "snapd/internal/host"
)

func (s serviceCheck) timer(ctx context.Context, t agent.Schedule) Check {
	unit := systemd.Timer{Group: t.Group}.Name()
	name := "timer of " + t.Group
	switch st := s.state(ctx, unit); {
	case st.Loaded == "bad-setting":
		return Check{Check: name, Why: fmt.Sprintf("systemd does not take %q for a calendar expression", t.Calendar), Do: "see what is wrong with: systemd-analyze calendar '" + t.Calendar + "'"}
	case st.Loaded == "masked":
		return Check{Check: name, Level: Warn, Why: "is masked, so that nothing runs this group", Do: "if it should run: systemctl unmask " + unit + "; if it should not, take its schedule out of the configuration or its label away"}
	case st.Loaded != "loaded" || st.Active != "active":
		return Check{Check: name, Why: unit + " is " + st.Loaded + " and " + st.Active, Do: "run: snapd schedule; then systemctl status " + unit + " says more"}
	case st.Next.IsZero():
		return Check{Check: name, Why: fmt.Sprintf("%q lies in the past: it never runs again", t.Calendar), Do: "correct the schedule; systemd-analyze calendar '" + t.Calendar + "' says when it would run"}
	default:
		return Check{Check: name, OK: true, Why: "runs next at " + st.Next.Local().Format("2006-01-02 15:04:05")}
	}
}

func (s serviceCheck) lastRun(ctx context.Context, t agent.Schedule) Check {
	name := "last run of " + t.Group
	for _, unit := range []string{"snapd-agent-run@" + t.Group + ".service", "snapd-agent-ship@" + t.Group + ".service"} {
		if st := s.state(ctx, unit); st.Active == "failed" {
			return Check{Check: name, Why: unit + " failed", Do: "see why with: journalctl -u " + unit + " -u " + systemd.AgentService}
		}
	}
	return Check{Check: name, OK: true, Why: "did not fail"}
}
