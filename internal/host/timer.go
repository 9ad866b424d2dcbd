package host

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// Names of our units.
const (
	AgentService  = "snapd-agent.service"
	AgentSocket   = "snapd-agent.socket"
	LookService   = "snapd-agent-look.service"   // writes the timers of labels
	LookTimer     = "snapd-agent-look.timer"     // starts it now and then
	ResumeService = "snapd-agent-resume.service" // goes on with interrupted ships
	ResumeTimer   = "snapd-agent-resume.timer"   // starts it now and then
	ThawService   = "snapd-agent-thaw.service"   // thaws and releases what a killed agent held
	runPrefix     = "snapd-agent-run@"           // GROUP.service runs one group
	writableFile  = "50-repositories.conf"       // drop-in of AgentService
	wantsDir      = "timers.target.wants"        // what boots with the timers
	dropInDir     = AgentService + ".d"          // of AgentService
	timersTarget  = runPrefix + "*" + timerKind  // pattern of all our timers
	timerKind     = ".timer"
)

// Timer runs one group at its times.
type Timer struct {
	Group    string `json:"group"`
	Calendar string `json:"calendar"` // systemd.time(7)
	Source   string `json:"source"`   // the file that says so, "" for labels
}

// Nothing else reaches a unit: no line ends, no specifiers (%), no quotes.
var (
	plainGroup    = regexp.MustCompile(`^[a-z0-9][a-z0-9_.-]{0,62}$`)
	plainCalendar = regexp.MustCompile(`^[A-Za-z0-9*,./:~_+-][A-Za-z0-9*,./:~_+ -]{0,200}$`)
	everyMinute   = regexp.MustCompile(`(^|\s)[0-9*,./]+:[0-9,.]*[*/]`)
)

// Name is the timer's unit.
func (t Timer) Name() string { return runPrefix + t.Group + timerKind }

// check refuses what was not parsed before.
func (t Timer) check() error {
	switch {
	case !plainGroup.MatchString(t.Group):
		return fmt.Errorf("%q is not the name of a group, so it gets no timer", t.Group)
	case !plainCalendar.MatchString(t.Calendar):
		return fmt.Errorf("group %s: %q is not a calendar expression, so it gets no timer", t.Group, t.Calendar)
	case t.Source != "" && (!filepath.IsAbs(t.Source) || strings.ContainsAny(t.Source, "\n%")):
		return fmt.Errorf("group %s: %q is not the path of a configuration", t.Group, t.Source)
	}
	return nil
}

// spread is the random delay: hosts that share a server must not come to it all
// in one second. It stays the same for a host and a group, so that the distance
// between two runs does not vary.
func (t Timer) spread() string {
	if t.Calendar == "minutely" || everyMinute.MatchString(t.Calendar) {
		return "10s"
	}
	return "5min"
}

// unit is the file of the timer.
func (t Timer) unit() (string, error) {
	if err := t.check(); err != nil {
		return "", err
	}
	var b strings.Builder
	fmt.Fprintf(&b, "# Written by snapd, from the schedule of group %s. Changes here are lost.\n[Unit]\n", t.Group)
	fmt.Fprintf(&b, "Description=Restore points of group %s (%s)\nDocumentation=man:snapd(8) man:snapd.toml(5)\n", t.Group, t.Calendar)
	if t.Source != "" {
		fmt.Fprintf(&b, "SourcePath=%s\n", t.Source)
	}
	fmt.Fprintf(&b, "\n[Timer]\nOnCalendar=%s\n# A run that was missed while the host was off is made up for.\nPersistent=true\n", t.Calendar)
	fmt.Fprintf(&b, "RandomizedDelaySec=%s\nFixedRandomDelay=true\nAccuracySec=1s\n", t.spread())
	return b.String(), nil
}

// Wanted is what the configuration asks of systemd.
type Wanted struct {
	Timers   []Timer  `json:"timers"`
	Writable []string `json:"writable"` // directories of repositories on this host

	Paths map[string][]string `json:"paths"` // of groups, to be mounted before us
}

// files are the units of the configuration, by path below a unit directory.
// What cannot be a unit is left out and named by the error.
func (w Wanted) files() (map[string]string, error) {
	out := orders(w.Paths)
	var faults []error
	for _, t := range w.Timers {
		text, err := t.unit()
		if err != nil {
			faults = append(faults, err)
			continue
		}
		out[t.Name()] = text
	}
	if len(w.Writable) > 0 {
		text, err := writable(w.Writable)
		if err != nil {
			faults = append(faults, err)
		}
		out[filepath.Join(dropInDir, writableFile)] = text
	}
	return out, errors.Join(faults...)
}

// writable is the drop-in that lets the agent write into directories.
func writable(dirs []string) (string, error) {
	var b strings.Builder
	b.WriteString("# Written by snapd: the repositories on this host that the configuration names.\n[Service]\n")
	var faults []error
	for _, dir := range slices.Sorted(slices.Values(dirs)) {
		if !filepath.IsAbs(dir) || strings.ContainsFunc(dir, func(r rune) bool { return r < ' ' || r == 0x7f }) {
			faults = append(faults, fmt.Errorf("the agent cannot be let into the directory %q", dir))
			continue
		}
		quoted := strings.NewReplacer(`\`, `\\`, `"`, `\"`, `%`, `%%`).Replace(dir)
		fmt.Fprintf(&b, "ReadWritePaths=\"-%s\"\n", quoted)
	}
	return b.String(), errors.Join(faults...)
}

// Generate writes the units of the configuration into a generator's directory,
// with links that start the timers at boot. What cannot be written is named by
// the error; the rest is written all the same.
func Generate(dir string, w Wanted) error {
	files, err := w.files()
	faults := []error{err}
	for name, text := range files {
		path := filepath.Join(dir, name)
		faults = append(faults, os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), 0o644))
		if filepath.Ext(name) == timerKind {
			wants := filepath.Join(dir, wantsDir)
			err := os.MkdirAll(wants, 0o755)
			if err == nil {
				err = os.Symlink("../"+name, filepath.Join(wants, name))
			}
			if !errors.Is(err, fs.ErrExist) {
				faults = append(faults, err)
			}
		}
	}
	return errors.Join(faults...)
}

// differs tells whether a directory holds other units of ours than these.
func differs(dir string, files map[string]string) (bool, error) {
	for name, text := range files {
		there, err := os.ReadFile(filepath.Join(dir, name))
		if errors.Is(err, fs.ErrNotExist) || err == nil && !bytes.Equal(there, []byte(text)) {
			return true, nil
		}
		if err != nil {
			return false, err
		}
	}
	stale, err := unwanted(dir, files)
	return len(stale) > 0, err
}

// unwanted are units of ours in a directory that are none of the files.
func unwanted(dir string, files map[string]string) ([]string, error) {
	var out []string
	for _, pattern := range []string{
		timersTarget, filepath.Join(dropInDir, writableFile), filepath.Join(dropInDir, mountsFile), filepath.Join(dropInDir, membersFile),
		filepath.Join(runPrefix+"*.service.d", mountsFile),
	} {
		found, err := filepath.Glob(filepath.Join(dir, pattern))
		if err != nil {
			return nil, err
		}
		for _, path := range found {
			name, err := filepath.Rel(dir, path)
			if err != nil {
				return nil, err
			}
			if _, wanted := files[name]; !wanted {
				out = append(out, name)
			}
		}
	}
	return out, nil
}

// Trouble says what keeps the timer of a group from running it, "" when it will
// run, or systemd does not say.
func Trouble(ctx context.Context, group string) string {
	u, err := OpenUnits(ctx)
	if err != nil {
		return "this host was not booted with systemd, so that no timer runs it"
	}
	defer u.Close()
	name := Timer{Group: group}.Name()
	st, err := u.State(ctx, name)
	switch {
	case err != nil:
		return ""
	case st.Loaded == "masked":
		return name + " is masked: systemctl unmask " + name + " lets it run"
	case st.Loaded == "not-found":
		return name + " is not there: snapd schedule makes it"
	case st.Active != "active":
		return name + " is " + st.Active + ": systemctl start " + name + " starts it"
	case st.Next.IsZero():
		return name + " will never run again: its schedule lies in the past"
	}
	return ""
}
