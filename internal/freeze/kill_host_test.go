//go:build host

package freeze

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// The test binary runs itself as the process that is killed.
const (
	envRole  = "SNAPD_FREEZE_TEST_ROLE" // "window" or "self"
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
		os.Exit(Guard(nil))
	}
	switch os.Getenv(envRole) {
	case "window":
		fmt.Println(beVictim())
		os.Exit(1) // it should have been killed
	case "self":
		fmt.Println(freezeMyself())
		os.Exit(0)
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

// die kills whom the victim says.
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

// nths are the occurrences of a step to be killed at: it comes once for each
// member, or once.
func nths(step string, members int) []int {
	if step != StepFreezing && step != StepThawing {
		return []int{1}
	}
	if !long {
		return slices.Compact([]int{1, (members + 1) / 2, members})
	}
	var all []int
	for n := range members {
		all = append(all, n+1)
	}
	return all
}

// Killed at any step, with one and with twenty members: one call of Recover
// has everybody moving and leaves no journal.
func TestKilledAtEveryStep(t *testing.T) {
	for _, n := range []int{1, 20} {
		writers := newWriters(t, n, tickScript)
		counts := map[string]int{}
		for _, step := range Steps() {
			for _, nth := range nths(step, n) {
				counts[step] += killOnce(t, writers, step, nth)
			}
		}
		t.Logf("%d members: found frozen and thawed after a kill at each step: %v", n, counts)
		if counts[StepFrozen] != n || counts[StepTaken] != n {
			t.Errorf("a kill while all are frozen should leave %d of them so: %v", n, counts)
		}
		if counts[StepJournal] != 0 || counts[StepThawed] != 0 || counts[StepClosing] != 0 {
			t.Errorf("something was frozen outside the window: %v", counts)
		}
	}
}

func killOnce(t *testing.T, writers []writer, step string, nth int) (thawed int) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "run")
	input, err := json.Marshal(victim{Dir: dir, Step: step, Nth: nth, Members: members(writers)})
	if err != nil {
		t.Fatal(err)
	}
	out, err := reexec(t, "window", string(input)).CombinedOutput()
	if err == nil || err.Error() != "signal: killed" {
		t.Fatalf("%s %d: the victim was not killed: %v: %s", step, nth, err, out)
	}
	recovered, err := Recover(t.Context(), Options{Dir: dir})
	if err != nil {
		t.Fatalf("%s %d: %v", step, nth, err)
	}
	for _, r := range recovered {
		if r.Outcome == Thawed {
			thawed++
		}
	}
	for _, w := range writers {
		if frozenNow(t, w.Cgroup) {
			t.Fatalf("%s %d: %s is still frozen", step, nth, w.Name)
		}
		w.moves(t)
	}
	noJournal(t, dir)
	return thawed
}
