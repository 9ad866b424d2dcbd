package doctor

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"snapd/internal/agent"

	systemd "snapd/internal/host"
)

// service looks at what systemd has to do with us: the socket, the agent behind
// it, its timers, its rights and its keys.
func (d doctor) service(ctx context.Context) []Check {
	schedules, _, err := d.Agent.Schedules(ctx)
	if err != nil {
		return nil // the check of the engine has said so
	}
	u, err := systemd.OpenUnits(ctx)
	if err != nil {
		return checkWithout(err, schedules)
	}
	defer u.Close()
	s := serviceCheck{units: u}
	checks := []Check{s.socket(ctx)}
	if !checks[0].OK && len(schedules) == 0 {
		return checks
	}
	if checks[0].OK {
		checks = append(checks, s.helpers(ctx)...)
	}
	checks = append(checks, s.lastEnd(ctx))
	checks = append(checks, s.rights(ctx, slices.Sorted(maps.Keys(d.Agent.Drivers)))...)
	checks = append(checks, s.shutdown(), paths(d.Units))
	for _, r := range d.Agent.Config.Repositories {
		checks = append(checks, checkKeys(r)...)
	}
	ask := remembering(d.Agent.Elapses)
	for _, t := range schedules {
		checks = append(checks, s.timer(ctx, t), s.lastRun(ctx, t))
		checks = append(checks, summerTime(ctx, ask, t.Group, t.Calendar, d.Agent.Now(), time.Local)...)
	}
	return checks
}

// checkWithout is for a host that no systemd runs.
func checkWithout(err error, schedules []agent.Schedule) []Check {
	const name = "systemd"
	if len(schedules) == 0 {
		return []Check{{Check: name, OK: true, Why: err.Error() + ": every command does its work itself"}}
	}
	return []Check{{
		Check: name, Why: fmt.Sprintf("%v, so that nothing starts group %s at its times", err, schedules[0].Group),
		Do: "call snapd run " + schedules[0].Group + " from cron, or from what starts programs here",
	}}
}

type serviceCheck struct {
	units *systemd.Units
}

func (s serviceCheck) state(ctx context.Context, unit string) systemd.State {
	st, err := s.units.State(ctx, unit)
	if err != nil {
		return systemd.State{Loaded: err.Error()}
	}
	return st
}

func (s serviceCheck) socket(ctx context.Context) Check {
	const name = "agent socket"
	switch st := s.state(ctx, systemd.AgentSocket); {
	case st.Loaded != "loaded":
		return Check{
			Check: name, Level: Warn, Why: systemd.AgentSocket + " is " + st.Loaded + ": every command does its work itself, and nothing runs by itself",
			Do: "install the Debian package (make deb), which brings the units",
		}
	case st.Active != "active":
		return Check{Check: name, Why: systemd.AgentSocket + " is " + st.Active, Do: "run: systemctl enable --now " + systemd.AgentSocket + "; if it failed, systemctl status says why"}
	}
	return Check{Check: name, OK: true, Why: "systemd starts the agent with the first call"}
}

func (s serviceCheck) lastEnd(ctx context.Context) Check {
	const name = "agent"
	st := s.state(ctx, systemd.AgentService)
	if st.Active == "failed" {
		return Check{
			Check: name, Why: "it ended last with " + st.Result + "; what it had frozen was thawed",
			Do: "see why with: journalctl -u " + systemd.AgentService + "; then: systemctl reset-failed " + systemd.AgentService,
		}
	}
	return Check{Check: name, OK: true, Why: "is " + st.Active + ", and ended well the last time"}
}

func (s serviceCheck) shutdown() Check {
	const name = "shutdown in a window"
	if v := s.units.Version(); v > 0 && v < 257 {
		return Check{Check: name, OK: true, Why: fmt.Sprintf("systemd %d keeps users from it; root is only delayed, by 5 s unless InhibitDelayMaxSec= in logind.conf says more", v)}
	}
	return Check{Check: name, OK: true, Why: "is refused, to root too, when it is asked for in the window; one that was scheduled before (shutdown -r +1) is only delayed, by 5 s unless InhibitDelayMaxSec= in logind.conf says more"}
}

// helpers are the units beside the agent and the timers of groups.
func (s serviceCheck) helpers(ctx context.Context) []Check {
	var out []Check
	for _, h := range []struct{ unit, cost string }{
		{systemd.LookTimer, "schedules of labels get no timers, and no agent watches the pools of LVM after a boot"},
		{systemd.ResumeTimer, "a ship that was interrupted goes on only with the next run of its group"},
	} {
		out = append(out, checkHelper(h.unit, h.cost, s.state(ctx, h.unit)))
	}
	for _, h := range []struct{ unit, cost, do string }{
		{systemd.LookService, "timers of labels may be missing", "snapd schedule"},
		{systemd.ResumeService, "a ship that was interrupted waits", "snapd ship"},
		{systemd.ThawService, "something may still be frozen", "snapd thaw"},
	} {
		if s.state(ctx, h.unit).Active == "failed" {
			out = append(out, Check{Check: h.unit, Why: "it failed the last time: " + h.cost, Do: "see why with: journalctl -u " + h.unit + "; then run: " + h.do})
		}
	}
	return out
}

// checkHelper: these timers are started with the socket, and may be stopped or
// masked by hand.
func checkHelper(timer, cost string, st systemd.State) Check {
	switch {
	case st.Loaded == "masked":
		return Check{Check: timer, Level: Warn, Why: "is masked: " + cost, Do: "run: systemctl unmask --now " + timer + ", unless that is what you want"}
	case st.Loaded != "loaded":
		return Check{Check: timer, Why: "is " + st.Loaded + ": " + cost, Do: "install the Debian package anew, which brings it"}
	case st.Active != "active":
		return Check{Check: timer, Why: "is " + st.Active + ": " + cost, Do: "run: systemctl start " + timer}
	}
	return Check{Check: timer, OK: true, Why: "is active"}
}

// paths tells whether the units are those of the configuration as it is now.
func paths(wanted systemd.Wanted) Check {
	const name = "units"
	switch good, err := systemd.InForce(wanted); {
	case err != nil:
		return Check{Check: name, Why: err.Error(), Do: "correct the configuration, then run: snapd schedule"}
	case !good:
		return Check{Check: name, Why: "the timers, or the directories that the agent may write to, are not those of the configuration: it was edited", Do: "run: snapd schedule"}
	}
	return Check{Check: name, OK: true, Why: "are those that the configuration asks for"}
}
