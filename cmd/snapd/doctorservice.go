package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"

	"snapd/internal/agent"
	"snapd/internal/config"

	systemd "snapd/internal/host"
)

// Where systemd and Debian keep what the agent is handed.
const (
	environmentFile = "/etc/default/snapd-agent"
	credentialName  = "snapd-agent.s3" //nolint:gosec // the name of one
)

func credentialDirs() []string {
	return []string{"/etc/credstore", "/etc/credstore.encrypted", "/run/credstore", "/run/credstore.encrypted", "/usr/lib/credstore", "/usr/lib/credstore.encrypted"}
}

// checkService looks at what systemd has to do with us: the socket, the agent
// behind it, its timers, its rights and its keys.
func (c *cli) checkService(ctx context.Context, a *agent.Agent) []agent.Check {
	schedules, _, err := a.Schedules(ctx)
	if err != nil {
		return nil // the check of the engine has said so
	}
	u, err := systemd.OpenUnits(ctx)
	if err != nil {
		return checkWithout(err, schedules)
	}
	defer u.Close()
	s := serviceCheck{units: u, agent: a}
	checks := []agent.Check{s.socket(ctx)}
	if !checks[0].OK && len(schedules) == 0 {
		return checks
	}
	if checks[0].OK {
		checks = append(checks, s.helpers(ctx)...)
	}
	checks = append(checks, s.lastEnd(ctx), s.shutdown(), s.memory(a.State))
	checks = append(checks, s.paths()...)
	for _, r := range a.Config.Repositories {
		checks = append(checks, checkKeys(r)...)
	}
	for _, t := range schedules {
		checks = append(checks, s.timer(ctx, t), s.lastRun(ctx, t))
	}
	return checks
}

// checkWithout is for a host that no systemd runs.
func checkWithout(err error, schedules []agent.Schedule) []agent.Check {
	const name = "systemd"
	if len(schedules) == 0 {
		return []agent.Check{{Check: name, OK: true, Why: err.Error() + ": every command does its work itself"}}
	}
	return []agent.Check{{
		Check: name, Why: fmt.Sprintf("%v, so that nothing starts group %s at its times", err, schedules[0].Group),
		Do: "call snapd run " + schedules[0].Group + " from cron, or from what starts programs here",
	}}
}

type serviceCheck struct {
	units *systemd.Units
	agent *agent.Agent
}

func (s serviceCheck) state(ctx context.Context, unit string) systemd.State {
	st, err := s.units.State(ctx, unit)
	if err != nil {
		return systemd.State{Loaded: err.Error()}
	}
	return st
}

func (s serviceCheck) socket(ctx context.Context) agent.Check {
	const name = "agent socket"
	switch st := s.state(ctx, systemd.AgentSocket); {
	case st.Loaded != "loaded":
		return agent.Check{
			Check: name, Why: systemd.AgentSocket + " is " + st.Loaded + ": every command does its work itself, and nothing runs by itself",
			Do: "install the Debian package (make deb), which brings the units",
		}
	case st.Active != "active":
		return agent.Check{Check: name, Why: systemd.AgentSocket + " is " + st.Active, Do: "run: systemctl enable --now " + systemd.AgentSocket + "; if it failed, systemctl status says why"}
	}
	return agent.Check{Check: name, OK: true, Why: "systemd starts the agent with the first call"}
}

func (s serviceCheck) lastEnd(ctx context.Context) agent.Check {
	const name = "agent"
	st := s.state(ctx, systemd.AgentService)
	if st.Active == "failed" {
		return agent.Check{
			Check: name, Why: "it ended last with " + st.Result + "; what it had frozen was thawed",
			Do: "see why with: journalctl -u " + systemd.AgentService + "; then: systemctl reset-failed " + systemd.AgentService,
		}
	}
	return agent.Check{Check: name, OK: true, Why: "is " + st.Active + ", and ended well the last time"}
}

func (s serviceCheck) shutdown() agent.Check {
	const name = "shutdown in a window"
	if v := s.units.Version(); v > 0 && v < 257 {
		return agent.Check{Check: name, OK: true, Why: fmt.Sprintf("systemd %d keeps users from it; root is only delayed, by 5 s unless InhibitDelayMaxSec= in logind.conf says more", v)}
	}
	return agent.Check{Check: name, OK: true, Why: "is refused, to root too"}
}

// helpers are the units beside the agent and the timers of groups.
func (s serviceCheck) helpers(ctx context.Context) []agent.Check {
	var out []agent.Check
	for _, h := range []struct{ unit, cost string }{
		{systemd.LookTimer, "schedules of labels get no timers, and nobody watches the pools of LVM after a boot"},
		{systemd.ResumeTimer, "a ship that was interrupted goes on only with the next run of its group"},
	} {
		out = append(out, checkHelper(h.unit, h.cost, s.state(ctx, h.unit)))
	}
	for _, h := range []struct{ unit, cost, do string }{
		{systemd.LookService, "timers of labels may be missing", "snapd schedule"},
		{systemd.ResumeService, "a ship that was interrupted waits", "snapd ship"},
		{systemd.ThawService, "something may still stand still", "snapd thaw"},
	} {
		if s.state(ctx, h.unit).Active == "failed" {
			out = append(out, agent.Check{Check: h.unit, Why: "it failed the last time: " + h.cost, Do: "see why with: journalctl -u " + h.unit + "; then run: " + h.do})
		}
	}
	return out
}

// checkHelper: these timers are started with the socket, and may be stopped or
// masked by hand.
func checkHelper(timer, cost string, st systemd.State) agent.Check {
	switch {
	case st.Loaded == "masked":
		return agent.Check{Check: timer, OK: true, Why: "is masked, which somebody wanted: " + cost}
	case st.Loaded != "loaded":
		return agent.Check{Check: timer, Why: "is " + st.Loaded + ": " + cost, Do: "install the Debian package anew, which brings it"}
	case st.Active != "active":
		return agent.Check{Check: timer, Why: "is " + st.Active + ": " + cost, Do: "run: systemctl start " + timer}
	}
	return agent.Check{Check: timer, OK: true, Why: "is active"}
}

// memory is where restore points are remembered.
func (s serviceCheck) memory(dir string) agent.Check {
	const name = "record of points"
	f, err := os.CreateTemp(dir, ".doctor-")
	if err != nil {
		return agent.Check{Check: name, Why: err.Error() + ": no restore point can be taken", Do: "make " + dir + " writable (systemd-tmpfiles --create snapd-agent.conf makes it), and look whether its filesystem is full or read-only"}
	}
	if err := errors.Join(f.Close(), os.Remove(f.Name())); err != nil {
		return agent.Check{Check: name, Why: err.Error(), Do: "look whether the filesystem of " + dir + " is damaged"}
	}
	return agent.Check{Check: name, OK: true, Why: dir + " can be written to"}
}

// paths tells whether the units are those of the configuration as it is now.
func (s serviceCheck) paths() []agent.Check {
	const name = "units"
	switch good, err := systemd.InForce(wanted(s.agent.Config)); {
	case err != nil:
		return []agent.Check{{Check: name, Why: err.Error(), Do: "mend the configuration, then run: snapd schedule"}}
	case !good:
		return []agent.Check{{Check: name, Why: "the timers, or the directories that the agent may write to, are not those of the configuration: it was edited", Do: "run: snapd schedule"}}
	}
	return []agent.Check{{Check: name, OK: true, Why: "are those that the configuration asks for"}}
}

// checkKeys: what a caller has in the environment, the agent does not have.
func checkKeys(r config.Repository) []agent.Check {
	u, err := url.Parse(r.URL)
	if err != nil || u.Scheme != "s3" {
		return nil
	}
	name := "  keys of the agent"
	if r.CredentialsFile != "" {
		return nil // the check of the repository has used it
	}
	for _, dir := range credentialDirs() {
		for _, credential := range []string{credentialName + "." + r.Name, credentialName} {
			if _, err := os.Stat(filepath.Join(dir, credential)); err == nil {
				return []agent.Check{{Check: name, OK: true, Why: "come from " + filepath.Join(dir, credential)}}
			}
		}
	}
	if text, err := os.ReadFile(environmentFile); err == nil && (bytes.Contains(text, []byte("AWS_ACCESS_KEY_ID=")) || bytes.Contains(text, []byte("MINIO_ACCESS_KEY="))) {
		return []agent.Check{{Check: name, OK: true, Why: "come from " + environmentFile}}
	}
	return []agent.Check{{
		Check: name, Why: "the agent has no keys for repository " + r.Name + ": the environment of a shell does not reach it",
		Do: "name credentials-file in the configuration, or put such a file into /etc/credstore/" + credentialName + " (root only; systemd-creds encrypt makes a sealed one for /etc/credstore.encrypted), or the variables into " + environmentFile,
	}}
}

func (s serviceCheck) timer(ctx context.Context, t agent.Schedule) agent.Check {
	unit := systemd.Timer{Group: t.Group}.Name()
	name := "timer of " + t.Group
	switch st := s.state(ctx, unit); {
	case st.Loaded == "bad-setting":
		return agent.Check{Check: name, Why: fmt.Sprintf("systemd does not take %q for a calendar expression", t.Calendar), Do: "see what is wrong with: systemd-analyze calendar '" + t.Calendar + "'"}
	case st.Loaded == "masked":
		return agent.Check{Check: name, OK: true, Why: "is masked, so that it does not run: somebody wanted that"}
	case st.Loaded != "loaded" || st.Active != "active":
		return agent.Check{Check: name, Why: unit + " is " + st.Loaded + " and " + st.Active, Do: "run: snapd schedule; then systemctl status " + unit + " says more"}
	case st.Next.IsZero():
		return agent.Check{Check: name, Why: fmt.Sprintf("%q lies in the past: it never runs again", t.Calendar), Do: "mend the schedule; systemd-analyze calendar '" + t.Calendar + "' says when it would run"}
	default:
		return agent.Check{Check: name, OK: true, Why: "runs next at " + st.Next.Local().Format("2006-01-02 15:04:05")}
	}
}

func (s serviceCheck) lastRun(ctx context.Context, t agent.Schedule) agent.Check {
	name := "last run of " + t.Group
	for _, unit := range []string{"snapd-agent-run@" + t.Group + ".service", "snapd-agent-ship@" + t.Group + ".service"} {
		if st := s.state(ctx, unit); st.Active == "failed" {
			return agent.Check{Check: name, Why: unit + " failed", Do: "see why with: journalctl -u " + unit + " -u " + systemd.AgentService}
		}
	}
	return agent.Check{Check: name, OK: true, Why: "did not fail"}
}
