package demo

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"snapd/internal/cgroup"
	"snapd/internal/freeze"
	"snapd/internal/workload"

	"golang.org/x/sys/unix"
)

// writeAllTheTime appends to a log as fast as a shell can, as busybox and any
// other shell understand it.
const writeAllTheTime = `i=0; while :; do i=$((i+1)); echo "tick $i" >> "$1/log"; done`

// writer is what writes to the volume and is frozen for the snapshot.
type writer interface {
	what() string          // for people
	configuration() string // the group, as it stands in snapd.toml
	engine(ctx context.Context) (*workload.Engine, error)
	processes(group string) []freeze.Member
	stop(ctx context.Context) error // may be called twice
}

// process writes where there is no container engine.
type process struct {
	command *exec.Cmd
	cgroup  string
	volume  string
	why     error // why it is no container
}

func startProcess(ctx context.Context, volume string, why error) (*process, error) {
	root, err := cgroup.Mount()
	if err != nil {
		return nil, err
	}
	p := &process{cgroup: filepath.Join(root, cgroupName(os.Getpid())), volume: volume, why: why}
	if err := os.Mkdir(p.cgroup, 0o755); err != nil {
		return nil, err
	}
	dir, err := os.Open(p.cgroup)
	if err != nil {
		return nil, errors.Join(err, p.stop(ctx))
	}
	defer dir.Close()                                                                                      //nolint:errcheck // only a handle
	p.command = exec.CommandContext(context.WithoutCancel(ctx), "sh", "-c", writeAllTheTime, "sh", volume) // ends in stop
	p.command.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: int(dir.Fd()), Pdeathsig: unix.SIGKILL}
	if err := p.command.Start(); err != nil {
		p.command = nil
		return nil, errors.Join(err, p.stop(ctx))
	}
	return p, nil
}

func (p *process) what() string {
	return fmt.Sprintf("A process in a cgroup of its own (no container, since %v)", p.why)
}

func (p *process) configuration() string {
	return fmt.Sprintf("\n[group.%s]\npaths = [%q]\nfreeze = \"freeze\"\n", group, p.volume)
}

func (p *process) engine(context.Context) (*workload.Engine, error) {
	return nil, workload.ErrNoEngine
}

func (p *process) processes(string) []freeze.Member {
	return []freeze.Member{{Kind: freeze.Process, ID: "demo", Name: "writer", Cgroup: p.cgroup, Pid: p.command.Process.Pid}}
}

func (p *process) stop(ctx context.Context) error {
	if p.command != nil {
		_ = p.command.Process.Kill() // it may have ended by itself
		_ = p.command.Wait()         // killed: not an error
		p.command = nil
	}
	// The kernel needs a moment to empty the cgroup.
	deadline := time.After(5 * time.Second)
	for {
		err := os.Remove(p.cgroup)
		if err == nil || errors.Is(err, os.ErrNotExist) {
			return nil
		}
		select {
		case <-deadline:
			return err
		case <-ctx.Done():
			return err
		case <-time.After(10 * time.Millisecond):
		}
	}
}

const cgroupPrefix = "snapd-demo-"

func cgroupName(pid int) string { return fmt.Sprintf("%s%d", cgroupPrefix, pid) }

// sweepCgroups removes those of killed demos, whose writers ended with them.
func sweepCgroups() {
	root, err := cgroup.Mount()
	if err != nil {
		return // then no demo could make one
	}
	left, _ := filepath.Glob(filepath.Join(root, cgroupPrefix+"*")) // the pattern is well-formed
	for _, dir := range left {
		pid, err := strconv.Atoi(strings.TrimPrefix(filepath.Base(dir), cgroupPrefix))
		if err == nil && errors.Is(unix.Kill(pid, 0), unix.ESRCH) {
			_ = os.Remove(dir) // only if nothing is in it
		}
	}
}
