package host

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"snapd/internal/advice"
	"snapd/internal/durable"

	"github.com/coreos/go-systemd/v22/dbus"
)

// ErrNoSystemd means that no systemd answers. Work goes on without timers.
var ErrNoSystemd = errors.New("no systemd answers on the system bus")

// jobPatience is how long a timer may take to be started.
const jobPatience = 30 * time.Second

// Places of units that do not outlive a boot.
const (
	generatorDir = "/run/systemd/generator"
	runtimeDir   = "/run/systemd/system"
)

// Units is a connection to systemd. The caller closes it.
type Units struct{ conn *dbus.Conn }

// OpenUnits connects. ErrNoSystemd is wrapped.
func OpenUnits(ctx context.Context) (*Units, error) {
	if _, err := os.Stat("/run/systemd/system"); err != nil {
		return nil, fmt.Errorf("%w: this host was not booted with it", ErrNoSystemd)
	}
	conn, err := dbus.NewSystemConnectionContext(ctx)
	if err != nil {
		return nil, fmt.Errorf("%w (%w)", ErrNoSystemd, err)
	}
	return &Units{conn}, nil
}

// Close ends the connection.
func (u *Units) Close() { u.conn.Close() }

// Start has a unit started and does not wait for it.
func (u *Units) Start(ctx context.Context, unit string) error {
	if _, err := u.conn.StartUnitContext(ctx, unit, "replace", nil); err != nil {
		return fmt.Errorf("start %s: %w", unit, err)
	}
	return nil
}

// Restart has a unit started anew and does not wait for it.
func (u *Units) Restart(ctx context.Context, unit string) error {
	if _, err := u.conn.RestartUnitContext(ctx, unit, "replace", nil); err != nil {
		return fmt.Errorf("restart %s: %w", unit, err)
	}
	return nil
}

// await runs a job and waits until it is done.
func (u *Units) await(ctx context.Context, what, unit string, job func(context.Context, string, string, chan<- string) (int, error)) error {
	ctx, cancel := context.WithTimeout(ctx, jobPatience)
	defer cancel()
	done := make(chan string, 1)
	if _, err := job(ctx, unit, "replace", done); err != nil {
		return fmt.Errorf("%s %s: %w", what, unit, err)
	}
	select {
	case result := <-done:
		if result != "done" && result != "skipped" {
			return advice.With(fmt.Errorf("%s %s: %s", what, unit, result), "see why with: systemctl status %s", unit)
		}
		return nil
	case <-ctx.Done():
		return fmt.Errorf("%s %s: %w", what, unit, ctx.Err())
	}
}

// Restarting tells whether the unit is being stopped only to be started again.
func (u *Units) Restarting(ctx context.Context, unit string) bool {
	jobs, err := u.conn.ListJobsContext(ctx)
	return err == nil && slices.ContainsFunc(jobs, func(j dbus.JobStatus) bool {
		return j.Unit == unit && (strings.HasSuffix(j.JobType, "restart") || j.JobType == "start")
	})
}

// State is how a unit stands.
type State struct {
	Loaded string // loaded, not-found, bad-setting, masked, …
	Active string // active, inactive, failed, …
	Result string // of a service: success, exit-code, …
	Next   time.Time
}

// State asks for one unit.
func (u *Units) State(ctx context.Context, unit string) (State, error) {
	all, err := u.conn.GetAllPropertiesContext(ctx, unit)
	if err != nil {
		return State{}, fmt.Errorf("ask systemd for %s: %w", unit, err)
	}
	text := func(key string) string { s, _ := all[key].(string); return s }
	s := State{Loaded: text("LoadState"), Active: text("ActiveState"), Result: text("Result")}
	if usec, ok := all["NextElapseUSecRealtime"].(uint64); ok && usec > 0 && usec < 1<<62 {
		s.Next = time.UnixMicro(int64(usec))
	}
	return s, nil
}

// Environment is the value that a service's unit gives to a variable, "" when
// it gives none, or systemd does not say.
func (u *Units) Environment(ctx context.Context, service, variable string) string {
	property, err := u.conn.GetServicePropertyContext(ctx, service, "Environment")
	if err != nil {
		return ""
	}
	all, _ := property.Value.Value().([]string)
	for _, line := range all {
		if value, is := strings.CutPrefix(line, variable+"="); is {
			return value
		}
	}
	return ""
}

// Version is that of systemd, 0 if it does not say.
func (u *Units) Version() int {
	text, err := u.conn.GetManagerProperty("Version") // such as "257.8-1~deb13u2", in quotes
	if err != nil {
		return 0
	}
	n := 0
	for _, r := range strings.Trim(text, `"`) {
		if r < '0' || r > '9' {
			break
		}
		n = 10*n + int(r-'0')
	}
	return n
}

// InForce tells whether the generator has written what the configuration asks.
func InForce(w Wanted) (bool, error) {
	files, err := w.files()
	if err != nil {
		return false, err
	}
	stale, err := differs(generatorDir, files)
	return !stale, err
}

// Changes are what Apply did, for people.
type Changes []string

// Apply makes systemd's timers those that are wanted. The generator writes those
// of the configuration. Those of labels are runtime units, and so are the
// drop-ins that order the agent after the mounts that containers write to. Timers
// that an administrator wrote are not touched. lastGood keeps what the
// configuration asked for: the generator uses it when the configuration is
// broken. retire tells an agent that runs to make way when it can; it is called when
// the agent's sandbox has changed.
func (u *Units) Apply(ctx context.Context, w Wanted, labels []Timer, mountPoints []string, lastGood string, retire func(context.Context) error) (Changes, error) {
	a := &apply{units: u, owed: lastGood + ".sandbox", retire: retire}
	faults := []error{a.remember(w, lastGood)}
	configured, err := w.files()
	faults = append(faults, err)
	fromLabels, err := Wanted{Timers: labels}.files()
	faults = append(faults, err)
	for name := range configured {
		delete(fromLabels, name) // the configuration beats labels
	}
	maps.Copy(fromLabels, members(mountPoints))
	a.reload, err = differs(generatorDir, configured)
	faults = append(faults, err)
	dropIn := filepath.Join(dropInDir, writableFile)
	sandbox, _ := os.ReadFile(filepath.Join(generatorDir, dropIn)) // none is as good as an empty one
	if string(sandbox) != configured[dropIn] {
		faults = append(faults, a.owe())
	}
	faults = append(faults, a.runtimeUnits(fromLabels))
	if a.reload {
		if err := u.conn.ReloadContext(ctx); err != nil {
			return a.did, errors.Join(append(faults, fmt.Errorf("have systemd read its units anew: %w", err))...)
		}
	}
	wanted := slices.Sorted(maps.Keys(configured))
	wanted = append(wanted, slices.Sorted(maps.Keys(fromLabels))...)
	faults = append(faults, a.stopOthers(ctx, wanted), a.start(ctx, wanted), a.letIn(ctx))
	return a.did, errors.Join(faults...)
}

type apply struct {
	units   *Units
	did     Changes
	reload  bool // units changed on disk
	changed []string

	owed   string // file that is there as long as an agent with an older sandbox may run
	retire func(context.Context) error
}

func (a *apply) note(format string, args ...any) { a.did = append(a.did, fmt.Sprintf(format, args...)) }

func (a *apply) remember(w Wanted, file string) error {
	text, err := json.Marshal(w)
	if err != nil {
		return err
	}
	return durable.Write(file, text, 0o600)
}

// runtimeUnits writes those that are new or changed and removes the others.
func (a *apply) runtimeUnits(files map[string]string) error {
	stale, err := unwanted(runtimeDir, files)
	faults := []error{err}
	for _, name := range stale {
		faults = append(faults, os.Remove(filepath.Join(runtimeDir, name)))
		a.reload = true
	}
	for name, text := range files {
		path := filepath.Join(runtimeDir, name)
		if there, err := os.ReadFile(path); err == nil && string(there) == text {
			continue
		}
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), durable.Write(path, []byte(text), 0o644)); err != nil {
			faults = append(faults, err)
			continue
		}
		a.reload = true
		a.changed = append(a.changed, name)
	}
	return errors.Join(faults...)
}

// stopOthers stops those of our timers that neither configuration nor labels ask
// for any more.
func (a *apply) stopOthers(ctx context.Context, wanted []string) error {
	units, err := a.units.conn.ListUnitsByPatternsContext(ctx, []string{"active"}, []string{timersTarget})
	if err != nil {
		return fmt.Errorf("list our timers: %w", err)
	}
	var faults []error
	for _, unit := range units {
		if slices.Contains(wanted, unit.Name) || unit.LoadState == "loaded" {
			continue // a loaded one that we did not write is an administrator's
		}
		faults = append(faults, a.units.await(ctx, "stop", unit.Name, a.units.conn.StopUnitContext))
		a.note("stopped %s: nothing asks for it any more", unit.Name)
	}
	return errors.Join(faults...)
}

// start starts the timers that do not run, and those that changed again. One
// that systemd refuses does not keep the others back.
func (a *apply) start(ctx context.Context, wanted []string) error {
	var faults []error
	for _, name := range wanted {
		if filepath.Ext(name) != timerKind {
			continue
		}
		s, err := a.units.State(ctx, name)
		if err != nil {
			faults = append(faults, err)
			continue
		}
		switch {
		case s.Active == "active" && slices.Contains(a.changed, name):
			err = a.units.await(ctx, "restart", name, a.units.conn.RestartUnitContext)
		case s.Active != "active" && s.Loaded != "masked": // a masked one is an administrator's word
			err = a.units.await(ctx, "start", name, a.units.conn.StartUnitContext)
		default:
			continue
		}
		if err != nil {
			faults = append(faults, err)
			continue
		}
		a.note("started %s", name)
	}
	return errors.Join(faults...)
}

// owe writes down that the agent's sandbox changes, before it does: who is killed in
// between, or cannot reach the agent, has the next call tell it.
func (a *apply) owe() error { return durable.Write(a.owed, nil, 0o600) }

// letIn has an agent that runs with an older sandbox make way for the next one when
// it has nothing to do but what that can go on with. It is not restarted: it may be
// in the middle of a hook.
func (a *apply) letIn(ctx context.Context) error {
	if _, err := os.Stat(a.owed); err != nil {
		return nil //nolint:nilerr // nothing is owed
	}
	s, err := a.units.State(ctx, AgentService)
	if err != nil {
		return err
	}
	if s.Active == "active" || s.Active == "activating" || s.Active == "reloading" {
		if err := a.retire(ctx); err != nil {
			return fmt.Errorf("have %s make way, whose sandbox has changed: %w", AgentService, err)
		}
		a.note("told %s to make way for the next one when it has nothing to do: its sandbox has changed", AgentService)
	}
	return os.Remove(a.owed)
}

// LastGood reads what Apply kept. What is not there is empty.
func LastGood(file string) (Wanted, error) {
	var w Wanted
	text, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return w, nil
	}
	if err == nil {
		err = json.Unmarshal(text, &w)
	}
	if err != nil {
		return Wanted{}, fmt.Errorf("read the last timers: %w", err)
	}
	return w, nil
}
