package zfs

import (
	"fmt"
	"os"
	"strconv"
	"strings"
)

// ownerMark says which process builds a restore: boot, process, and when that
// was started, since numbers of processes are used again.
func ownerMark() string {
	return markOf(os.Getpid())
}

func markOf(pid int) string { return fmt.Sprintf("%s.%d.%s", bootID(), pid, startedAt(pid)) }

// alive tells whether the process that an owner's mark names still runs. A
// mark of another boot, or another host, names nobody who does.
func alive(mark string) bool {
	parts := strings.Split(mark, ".")
	if len(parts) != 3 || parts[0] != bootID() {
		return false
	}
	pid, err := strconv.Atoi(parts[1])
	return err == nil && parts[2] != "" && startedAt(pid) == parts[2]
}

func bootID() string {
	id, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return "unknown"
	}
	return strings.TrimSpace(string(id))
}

// startedAt is when a process was started, in the kernel's ticks; "" when it
// does not run.
func startedAt(pid int) string {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return ""
	}
	// The program's name stands in parentheses and may hold anything.
	_, rest, found := strings.Cut(string(stat[max(0, strings.LastIndexByte(string(stat), ')')):]), ") ")
	fields := strings.Fields(rest)
	if !found || len(fields) < 20 || fields[0] == "Z" {
		return ""
	}
	return fields[19]
}
