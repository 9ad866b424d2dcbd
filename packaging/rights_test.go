package packaging_test

import (
	"testing"

	systemd "snapd/internal/host"
)

// trial shows that the agent needs one right of its unit.
type trial struct {
	setting, value string
	works          string // a function of rightsTried that succeeds with the right, and fails without it; "" where none is known
	says           string // what a person reads without it, from the command or from the journal
}

// trials has a line for each right. What it costs to do without is in
// internal/host/rights.go.
func trials() []trial {
	const capabilities, filter, paths, devices = "CapabilityBoundingSet", "SystemCallFilter", "ReadWritePaths", "DeviceAllow"
	return []trial{
		{capabilities, "CAP_SYS_ADMIN", "point btrees", "operation not permitted"},
		{capabilities, "CAP_DAC_OVERRIDE", "point btrees", "permission denied"},
		{capabilities, "CAP_FOWNER", "point btrees", "operation not permitted"},
		{capabilities, "CAP_SYS_PTRACE", "point btrees", "the right to do so is missing"},
		{capabilities, "CAP_SYS_NICE", "guarded SCHED_FIFO", "without CAP_SYS_NICE"},
		{capabilities, "CAP_KILL", "ended", "could not be ended"},
		{capabilities, "CAP_IPC_LOCK", "guarded 'VmLck:[[:space:]]*[1-9]'", "without CAP_IPC_LOCK"},
		{filter, "@mount", "point btrees", "fsopen: operation not permitted"},
		{filter, "fanotify_init", "seen", "operation not permitted"},
		{filter, "fanotify_mark", "seen", "operation not permitted"},
		{paths, "/run/snapd-agent", "point btrees", "read-only file system"},
		{paths, "/var/lib/snapd-agent", "point btrees", "read-only file system"},
		// Snapshots were taken all the same when either was taken away (LVM 2.03.31). They
		// stay: LVM's locks against its other commands, and what it knows of devices, are
		// there, and a point that succeeds without them does not show that they held.
		{paths, "/run/lock/lvm", "", ""},
		{paths, "/run/lvm", "", ""},
		{paths, "/etc/lvm", "point volumes", "back up LVM's metadata"},
		{devices, "block-*", "point btrees", "operation not permitted"},
		{devices, "/dev/zfs", "point pool", "/dev/zfs"},
		{devices, "/dev/mapper/control", "point volumes", "/dev/mapper/control"},
		{devices, "/dev/loop-control", "probed", "loop"},
	}
}

// TestEachRightHasATrial: a right that no test misses is taken out of the unit.
func TestEachRightHasATrial(t *testing.T) {
	tried := map[[2]string]bool{}
	for _, c := range trials() {
		tried[[2]string{c.setting, c.value}] = true
	}
	for _, r := range systemd.Rights() {
		key := [2]string{r.Setting, r.Value}
		if !tried[key] {
			t.Errorf("%s has no trial", r)
		}
		delete(tried, key)
	}
	for key := range tried {
		t.Errorf("%q is tried, and is no right of the unit", key)
	}
}
