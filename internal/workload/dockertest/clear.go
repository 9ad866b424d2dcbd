package dockertest

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"snapd/internal/proc"

	"golang.org/x/sys/unix"
)

// Clear removes an engine after its owner was killed: dockerd, containerd, shims
// and containers that still run from dir, their cgroups, and what they left
// mounted below dir. The files stay. A dir where no engine ever was is no
// error.
func Clear(dir string) error {
	left, err := leftIn(dir)
	if err != nil {
		return err
	}
	for _, p := range left {
		_ = unix.Kill(p.pid, unix.SIGKILL) // it may have ended by itself
	}
	var errs error
	for _, p := range left {
		errs = errors.Join(errs, awaitEnd(p.pid))
	}
	for _, p := range left {
		p.removeCgroups()
	}
	return errors.Join(errs, unmountBelow(dir))
}

// process is one line of the process table.
type process struct {
	pid, parent int
	args        []string
}

// leftIn finds the engine's processes by their arguments, and below them those
// of its containers, which say nothing about dir themselves.
func leftIn(dir string) ([]process, error) {
	all, err := processes()
	if err != nil {
		return nil, err
	}
	var found []process
	for _, p := range all {
		if p.engineIn(dir) {
			found = append(found, p)
		}
	}
	for i := 0; i < len(found); i++ { // found grows
		for _, p := range all {
			if p.parent == found[i].pid && !slices.ContainsFunc(found, func(f process) bool { return f.pid == p.pid }) {
				found = append(found, p)
			}
		}
	}
	return found, nil
}

// engineIn tells whether the process is a part of an engine that runs in dir:
// an editor or a pager that looks at a file there is none.
func (p process) engineIn(dir string) bool {
	switch name := filepath.Base(p.args[0]); {
	case name == "dockerd", name == "containerd", strings.HasPrefix(name, "containerd-shim"):
	default:
		return false
	}
	return slices.ContainsFunc(p.args[1:], func(arg string) bool { return strings.HasPrefix(arg, filepath.Clean(dir)+"/") })
}

// removeCgroups removes those of a shim's container, as far as they are empty.
// Those that systemd made it removes itself.
func (p process) removeCgroups() {
	at := slices.Index(p.args, "-id")
	if at < 0 || at+1 >= len(p.args) || !strings.HasPrefix(filepath.Base(p.args[0]), "containerd-shim") {
		return
	}
	for _, tree := range []string{"/sys/fs/cgroup", "/sys/fs/cgroup/*"} {
		left, _ := filepath.Glob(filepath.Join(tree, "docker", p.args[at+1])) // the pattern is well-formed
		for _, dir := range left {
			_ = os.Remove(dir) // only if nothing is in it
		}
	}
}

func processes() ([]process, error) {
	pids, err := proc.All()
	if err != nil {
		return nil, err
	}
	var all []process
	for _, pid := range pids {
		args, argsErr := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
		p, statErr := proc.Look(pid)
		if argsErr != nil || statErr != nil || len(args) == 0 {
			continue // ended meanwhile, or the kernel's
		}
		all = append(all, process{pid: pid, parent: p.Parent, args: strings.Split(strings.TrimSuffix(string(args), "\x00"), "\x00")})
	}
	return all, nil
}

// awaitEnd waits until a killed process is gone, or only its name is left.
func awaitEnd(pid int) error {
	for begin := time.Now(); time.Since(begin) < stopLimit; time.Sleep(5 * time.Millisecond) {
		if p, err := proc.Look(pid); err != nil || !p.Alive() {
			return nil //nolint:nilerr // the process is gone
		}
	}
	return fmt.Errorf("process %d was killed and does not end", pid)
}
