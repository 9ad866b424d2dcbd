package freeze

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// needed are the programs of this host that snapd talks to, or that the
// kernel and systemd need to undo a freeze.
func needed() []string {
	return []string{
		"snapd", "dockerd", "containerd", "containerd-shim", "containerd-shim-runc-v2", "podman", "conmon",
		"systemd-journald", "systemd-logind", "systemd-udevd", "dbus-daemon", "dbus-broker",
		"dmeventd", "lvmpolld", "zed", "rsyslogd",
	}
}

// neverFreeze refuses a cgroup in whose tree a process runs that snapd needs.
// A daemon of the same name inside a container, with process ids of its own,
// is the container's business.
func neverFreeze(dir string) error {
	pids, err := pidsBelow(dir)
	if err != nil {
		return fmt.Errorf("read which processes are in %s: %w", dir, err)
	}
	ours, err := os.Readlink("/proc/self/ns/pid")
	if err != nil {
		return err
	}
	for _, pid := range pids {
		if pid == os.Getpid() || pid == os.Getppid() || pid == 1 {
			return fmt.Errorf("process %d, which snapd needs, is in %s: %w", pid, dir, ErrNeverFreeze)
		}
		theirs, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/pid", pid))
		if err != nil || theirs != ours {
			continue // it has ended, or is a container's own
		}
		if name := programOf(pid); slices.Contains(needed(), name) {
			return fmt.Errorf("%s (process %d), which snapd needs, is in %s: %w", name, pid, dir, ErrNeverFreeze)
		}
	}
	return nil
}

// programOf returns the name of the file that a process runs, "" when it has
// ended. The name that a process gives itself is not asked.
func programOf(pid int) string {
	exe, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", pid))
	if err != nil {
		return ""
	}
	return strings.TrimSuffix(filepath.Base(exe), " (deleted)")
}

// pidsBelow lists the processes of a cgroup and of all below it. Cgroups that
// vanish meanwhile have none.
func pidsBelow(dir string) ([]int, error) {
	var pids []int
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if vanished(err) {
			return nil
		}
		if err != nil || !e.IsDir() {
			return err
		}
		some, err := pidsIn(filepath.Join(path, "cgroup.procs"))
		if errors.Is(err, unix.EOPNOTSUPP) {
			some, err = pidsIn(filepath.Join(path, "cgroup.threads")) // a threaded cgroup
		}
		if vanished(err) {
			return nil
		}
		pids = append(pids, some...)
		return err
	})
	return pids, err
}

func vanished(err error) bool {
	return errors.Is(err, os.ErrNotExist) || errors.Is(err, unix.ENODEV)
}

func pidsIn(file string) ([]int, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close() //nolint:errcheck // only read from
	var pids []int
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		if pid, err := strconv.Atoi(lines.Text()); err == nil {
			pids = append(pids, pid)
		}
	}
	return pids, lines.Err()
}
