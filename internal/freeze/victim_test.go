//go:build host || guest

package freeze

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"snapd/internal/cgroup"

	"golang.org/x/sys/unix"
)

// The test binary runs itself as the process that is killed.
const (
	envRole  = "SNAPD_FREEZE_TEST_ROLE" // "window", "self" or "counter"
	envInput = "SNAPD_FREEZE_TEST_INPUT"
)

type victim struct {
	Dir      string
	Step     string
	Nth      int
	Members  []Member
	Disks    []Filesystem
	Guard    bool
	Kill     string // agent, guard, both or hang; "" means agent
	Deadline time.Duration
}

func TestMain(m *testing.M) {
	if IsGuard() {
		os.Exit(Guard(context.Background(), nil))
	}
	switch os.Getenv(envRole) {
	case "window":
		fmt.Println(beVictim())
		os.Exit(1) // it should have been killed
	case "self":
		fmt.Println(freezeMyself())
		os.Exit(0)
	case "counter":
		fmt.Println(countOn())
		os.Exit(1)
	}
	os.Exit(m.Run())
}

func reexec(t *testing.T, role, input string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), envRole+"="+role, envInput+"="+input)
	return cmd
}

func beVictim() error {
	var v victim
	if err := json.Unmarshal([]byte(os.Getenv(envInput)), &v); err != nil {
		return err
	}
	seen := 0
	o := Options{Dir: v.Dir, Deadline: v.Deadline, Guard: v.Guard, Filesystems: v.Disks, Fault: func(step string) {
		if step == v.Step {
			if seen++; seen == v.Nth {
				v.die()
			}
		}
	}}
	if o.Deadline == 0 {
		o.Deadline = 5 * time.Second
	}
	ctx, cancel := contextForChild()
	defer cancel()
	w, err := Prepare(ctx, v.Members, o)
	if err != nil {
		return err
	}
	if _, err := w.Run(func() error { return nil }); err != nil {
		return errors.Join(err, w.Close())
	}
	if err := w.Close(); err != nil {
		return err
	}
	if v.Kill == "guard" {
		return errors.New("done")
	}
	return nil
}

// die kills the processes that the victim names.
func (v victim) die() {
	if v.Kill == "guard" || v.Kill == "both" {
		for _, pid := range guardsOf(os.Getpid()) {
			_ = unix.Kill(pid, unix.SIGKILL)
			for len(guardsOf(os.Getpid())) > 0 {
				time.Sleep(time.Millisecond)
			}
		}
	}
	switch v.Kill {
	case "guard":
		return
	case "hang":
		_ = unix.Kill(os.Getpid(), unix.SIGSTOP)
		time.Sleep(50 * time.Millisecond) // this thread may not be the first to stop
		return
	}
	_ = unix.Kill(os.Getpid(), unix.SIGKILL)
	select {}
}

// guardsOf lists the living guards that a process has started.
func guardsOf(parent int) []int {
	var out []int
	stats, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, name := range stats {
		stat, err := os.ReadFile(name)
		if err != nil {
			continue
		}
		fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
		if len(fields) < 2 || fields[0] == "Z" || fields[1] != strconv.Itoa(parent) {
			continue
		}
		args, _ := os.ReadFile(filepath.Join(filepath.Dir(name), "cmdline"))
		if pid, err := strconv.Atoi(filepath.Base(filepath.Dir(name))); err == nil && bytes.HasPrefix(args, []byte(guardName+"\x00")) {
			out = append(out, pid)
		}
	}
	return out
}

func contextForChild() (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.Background(), time.Minute)
}

// freezeMyself puts this process into a cgroup and tries to freeze it.
func freezeMyself() (text string) {
	ctx, cancel := contextForChild()
	defer cancel()
	mount, err := cgroup.Mount()
	if err != nil {
		return err.Error()
	}
	dir := filepath.Join(mount, fmt.Sprintf("snapd-test-self-%d", os.Getpid()))
	inner := filepath.Join(dir, "inner")
	if err := os.MkdirAll(inner, 0o755); err != nil {
		return err.Error()
	}
	defer func() {
		_ = os.WriteFile(filepath.Join(mount, "cgroup.procs"), []byte("0"), 0)
		_ = os.Remove(inner)
		_ = os.Remove(dir)
	}()
	if err := os.WriteFile(filepath.Join(inner, "cgroup.procs"), []byte("0"), 0); err != nil {
		return err.Error()
	}
	_, err = Prepare(ctx, []Member{{Kind: Process, Name: "ancestor", Cgroup: dir}}, Options{Dir: os.TempDir(), Deadline: time.Second})
	return fmt.Sprint(err)
}

// countOn stamps a growing number into several files in turn, until it is
// killed: no two of them are ever more than one apart.
func countOn() error {
	var files []*os.File
	for name := range strings.SplitSeq(os.Getenv(envInput), "\n") {
		f, err := os.OpenFile(name, os.O_CREATE|os.O_WRONLY, 0o600)
		if err != nil {
			return err
		}
		files = append(files, f)
	}
	for n := uint64(1); ; n++ {
		for _, f := range files {
			if _, err := f.WriteAt(binary.LittleEndian.AppendUint64(nil, n), 0); err != nil {
				return err
			}
		}
	}
}
