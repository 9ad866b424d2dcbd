package workload

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"

	"snapd/internal/cgroup"
	"snapd/internal/proc"
)

// markName is the variable by which the processes of a Command are known:
// everything that they start inherits it.
const markName = "SNAPD_MARK"

// markEnd separates the mark of a Command from what each session adds.
const markEnd = "/"

// EndMarked kills those processes of containers that have a mark of which stale
// says that its maker is dead. The engine is not asked, so that it may hang. It
// returns the numbers of those it killed.
func EndMarked(stale func(mark string) bool) ([]int, error) {
	return endMarked(func(_ int, mark string) bool {
		i := strings.LastIndex(mark, markEnd)
		return i > 0 && stale(mark[:i])
	})
}

// endMarked is EndMarked by process and whole mark.
func endMarked(doomed func(pid int, mark string) bool) ([]int, error) {
	pids, err := proc.All()
	if err != nil {
		return nil, err
	}
	var ended []int
	var errs error
	denied := 0
	for _, pid := range pids {
		// Reading the environment of one that waits in the kernel could wait
		// with it; a client that has a lock does not wait so.
		p, err := proc.Look(pid)
		if err != nil || p.State == 'D' || !inContainer(pid) {
			continue
		}
		mark, err := markOf(pid)
		if errors.Is(err, os.ErrPermission) {
			denied++
		}
		if mark == "" || !doomed(pid, mark) {
			continue
		}
		same := func() bool {
			now, err := proc.Look(pid)
			return err == nil && now.Start == p.Start
		}
		if err := proc.Kill(pid, same); err != nil {
			errs = errors.Join(errs, err)
			continue
		}
		ended = append(ended, pid)
	}
	if denied > 0 {
		errs = errors.Join(errs, fmt.Errorf("%d processes of containers could not be looked at, and may run a hook or keep a lock: the right to do so is missing", denied))
	}
	return ended, errs
}

var containerID = regexp.MustCompile(`[0-9a-f]{64}`)

func inContainer(pid int) bool {
	in, err := cgroup.Of(pid)
	if err != nil {
		return false
	}
	for _, path := range in.V1 {
		if containerID.MatchString(path) {
			return true
		}
	}
	return containerID.MatchString(in.V2)
}

// markOf reads the mark of a process, "" when it has none; one that has ended is an
// error.
func markOf(pid int) (string, error) {
	env, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "environ"))
	if err != nil {
		return "", err
	}
	for v := range bytes.SplitSeq(env, []byte{0}) {
		if mark, ok := bytes.CutPrefix(v, []byte(markName+"=")); ok {
			return string(mark), nil
		}
	}
	return "", nil
}

// SelfMark is a mark that names this process, until it ends.
func SelfMark() (string, error) {
	p, err := proc.Look(os.Getpid())
	if err != nil {
		return "", err
	}
	return strconv.Itoa(p.PID) + "-" + p.Start, nil
}

// MarkOfDead tells whether a mark names a process that has ended.
func MarkOfDead(mark string) bool {
	var pid int
	var start string
	if n, err := fmt.Sscanf(mark, "%d-%s", &pid, &start); n != 2 || err != nil {
		return false
	}
	now, err := proc.Look(pid)
	return errors.Is(err, os.ErrNotExist) || err == nil && now.Start != start
}
