package proc

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

// Process is what the kernel says about a process that is there.
type Process struct {
	PID    int
	Name   string // of its program, at most 15 bytes; the process may have given it to itself
	State  byte   // 'R', 'S', 'D' (waits in the kernel), 'T' (stopped), 'Z' (has ended), …
	Parent int
	Start  string // in the kernel's ticks since boot: numbers of processes are used again
}

// Alive tells whether it has not ended: of a zombie only the name is left.
func (p Process) Alive() bool { return p.State != 'Z' && p.State != 'X' }

// Look asks about a process; os.ErrNotExist when there is none.
func Look(pid int) (Process, error) {
	text, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return Process{}, err
	}
	p, err := parseStat(text)
	if err != nil {
		return Process{}, fmt.Errorf("read the state of process %d: %w", pid, err)
	}
	return p, nil
}

// parseStat reads proc_pid_stat(5). The name stands in parentheses and may
// have any characters, parentheses among them.
func parseStat(text []byte) (Process, error) {
	const (
		start = 22 // the field, counted from 1
		named = 2  // fields up to the closing parenthesis
	)
	before, after := bytes.IndexByte(text, '('), bytes.LastIndexByte(text, ')')
	if before < 0 || after < before {
		return Process{}, fmt.Errorf("unexpected %q", text)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(text[:before])))
	fields := strings.Fields(string(text[after+1:]))
	if err != nil || len(fields) <= start-named-1 || len(fields[0]) != 1 {
		return Process{}, fmt.Errorf("unexpected %q", text)
	}
	parent, err := strconv.Atoi(fields[1])
	if err != nil {
		return Process{}, fmt.Errorf("unexpected %q", text)
	}
	return Process{PID: pid, Name: string(text[before+1 : after]), State: fields[0][0], Parent: parent, Start: fields[start-named-1]}, nil
}

// All are the numbers of the processes that are there.
func All() ([]int, error) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, fmt.Errorf("list processes: %w", err)
	}
	var out []int
	for _, e := range entries {
		if pid, err := strconv.Atoi(e.Name()); err == nil {
			out = append(out, pid)
		}
	}
	return out, nil
}

// Mark names this process for what it leaves behind: the boot, the number, and
// when it was started, since numbers are used again. It is the same for the
// process's whole life, and has letters, digits, dots and dashes only.
func Mark() string { return markOf(os.Getpid()) }

func markOf(pid int) string {
	p, _ := Look(pid) // of one that is not there, a mark that does not live
	return fmt.Sprintf("%s.%d.%s", BootID(), pid, p.Start)
}

// Lives tells whether the process that a mark names still runs. A mark of
// another boot or another host names none, and neither does what is no mark.
func Lives(mark string) bool {
	parts := strings.Split(mark, ".")
	if len(parts) != 3 || parts[0] != BootID() || parts[2] == "" {
		return false
	}
	pid, err := strconv.Atoi(parts[1])
	if err != nil {
		return false
	}
	p, err := Look(pid)
	return err == nil && p.Alive() && p.Start == parts[2]
}

// BootID is another for each boot, "unknown" when the kernel does not say.
func BootID() string {
	id, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return "unknown"
	}
	return strings.TrimSpace(string(id))
}

// Uptime is for how long the host is up, 0 when the kernel does not say.
func Uptime() time.Duration {
	text, err := os.ReadFile("/proc/uptime")
	if err != nil {
		return 0
	}
	seconds, _, _ := strings.Cut(string(text), " ")
	n, _ := strconv.ParseFloat(seconds, 64)
	return time.Duration(n * float64(time.Second))
}
