package host

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
)

// Right is one thing that the agent's unit allows the agent, because something in
// it fails otherwise.
type Right struct {
	Setting  string // of the unit, such as CapabilityBoundingSet
	Value    string // one word of the setting; of DeviceAllow the node alone
	Storage  string // what has need of it; "" is each of them, and several stand with a comma between
	Without  string // what fails without it, for users
	Less     bool   // all works without it, and less well or less safely
	bit      uint   // of a capability: its number in linux/capability.h
	syscalls []string
}

func (r Right) String() string { return r.Value + " (" + r.Setting + "=)" }

// The settings by which the agent's unit allows something.
const (
	capabilitySet = "CapabilityBoundingSet"
	writablePaths = "ReadWritePaths"
	syscallFilter = "SystemCallFilter"
	deviceAllow   = "DeviceAllow"
	sharedPaths   = "LVM cannot lock, and keeps no copy of its metadata"
)

// Rights are all that the agent's unit allows. A test holds them against the unit,
// and each has a test that takes it away and sees what fails: see packaging.
func Rights() []Right {
	capability := func(bit uint, name, without string) Right {
		return Right{Setting: capabilitySet, Value: "CAP_" + name, bit: bit, Without: without}
	}
	less := func(r Right) Right { r.Less = true; return r }
	return []Right{
		capability(21, "SYS_ADMIN", "no snapshot can be taken or deleted, and no filesystem thawed"),
		capability(1, "DAC_OVERRIDE", "datasets whose directories belong to users of containers cannot be opened"),
		capability(3, "FOWNER", "subvolumes of Btrfs whose root belongs to a user of a container cannot be snapshotted"),
		capability(19, "SYS_PTRACE", "which processes of the host write to a group's files, and which run a hook of a killed agent, cannot be told"),
		less(capability(23, "SYS_NICE", "a window has no real-time priority, so that members stay frozen for longer on a busy host")),
		capability(5, "KILL", "hooks and holds that run as another user than root cannot be ended when they hang"),
		less(capability(14, "IPC_LOCK", "the memory of a window's guard, and LVM's own, can be swapped out to a disk that is frozen")),
		{Setting: syscallFilter, Value: "@mount", Storage: "btrfs,lvm", syscalls: []string{"fsopen"}, Without: "Btrfs cannot be mounted privately for its snapshots"},
		{Setting: syscallFilter, Value: "fanotify_init", syscalls: []string{"fanotify_init"}, Less: true, Without: "processes of the host that write while snapshots are taken are not seen"},
		{Setting: syscallFilter, Value: "fanotify_mark", syscalls: []string{"fanotify_mark"}, Less: true, Without: "processes of the host that write while snapshots are taken are not seen"},
		{Setting: writablePaths, Value: "/run/snapd-agent", Without: "no group can be locked, and no window have a journal"},
		{Setting: writablePaths, Value: "/var/lib/snapd-agent", Without: "restore points cannot be recorded"},
		{Setting: writablePaths, Value: "/run/lock/lvm", Storage: "lvm", Without: sharedPaths},
		{Setting: writablePaths, Value: "/run/lvm", Storage: "lvm", Without: sharedPaths},
		{Setting: writablePaths, Value: "/etc/lvm", Storage: "lvm", Without: sharedPaths},
		{Setting: deviceAllow, Value: "block-*", Storage: "btrfs,lvm", Without: "Btrfs cannot be mounted, and LVM finds no volume"},
		{Setting: deviceAllow, Value: "/dev/zfs", Storage: "zfs", Without: "ZFS cannot be asked for anything"},
		{Setting: deviceAllow, Value: "/dev/mapper/control", Storage: "lvm", Without: "LVM takes no snapshots"},
		{Setting: deviceAllow, Value: "/dev/loop-control", Storage: "lvm", Without: "whether frozen filesystems can be snapshotted cannot be tried, so that volumes of LVM are not taken at one instant"},
	}
}

// Lack is a right that the agent's unit does not give.
type Lack struct {
	Right
	From []string // the drop-ins that say something about that setting, which may have taken it
}

// Lacking are the rights that the agent's unit, as systemd has it in force, does not
// give, of those that the storages in use need; none are named when all are.
func (u *Units) Lacking(ctx context.Context, storages []string) ([]Lack, error) {
	all, err := u.conn.GetAllPropertiesContext(ctx, AgentService)
	if err != nil {
		return nil, fmt.Errorf("ask systemd for %s: %w", AgentService, err)
	}
	given, dropIns := grantOf(all), []string(nil)
	dropIns, _ = all["DropInPaths"].([]string)
	var out []Lack
	for _, r := range Rights() {
		if r.usedBy(storages) && !given.has(r) {
			out = append(out, Lack{r, saying(dropIns, r.Setting)})
		}
	}
	return out, nil
}

func (r Right) usedBy(storages []string) bool {
	return r.Storage == "" || len(storages) == 0 || slices.ContainsFunc(storages, func(s string) bool {
		return slices.Contains(strings.Split(r.Storage, ","), s)
	})
}

// saying are those of the files that have a line of this setting.
func saying(files []string, setting string) (out []string) {
	for _, name := range files {
		text, err := os.ReadFile(name)
		if err == nil && slices.ContainsFunc(strings.Split(string(text), "\n"), func(line string) bool { return strings.HasPrefix(strings.TrimSpace(line), setting) }) {
			out = append(out, name)
		}
	}
	return out
}

// grant is what a unit allows. What systemd does not say is allowed.
type grant struct {
	capabilities uint64
	known        bool // capabilities were said
	syscalls     func(name string) bool
	writable     func(path string) bool
}

// grantOf reads the properties of a service; see org.freedesktop.systemd1(5).
func grantOf(properties map[string]any) grant {
	g := grant{syscalls: func(string) bool { return true }, writable: func(string) bool { return true }}
	g.capabilities, g.known = properties[capabilitySet].(uint64)
	// Whether the names are those that are allowed, and the names.
	if filter, ok := properties[syscallFilter].([]any); ok && len(filter) == 2 {
		allows, isBool := filter[0].(bool)
		names, isList := filter[1].([]string)
		if isBool && isList && (allows || len(names) > 0) {
			g.syscalls = func(name string) bool { return slices.Contains(names, name) == allows }
		}
	}
	if protected, _ := properties["ProtectSystem"].(string); protected == "strict" {
		paths, _ := properties[writablePaths].([]string)
		g.writable = func(path string) bool {
			return slices.ContainsFunc(paths, func(p string) bool { return strings.TrimLeft(p, "-+") == path })
		}
	}
	return g
}

// has tells whether the unit gives a right. Devices are not looked at: which nodes
// are behind a rule is known when they are opened.
func (g grant) has(r Right) bool {
	switch r.Setting {
	case capabilitySet:
		return !g.known || g.capabilities&(1<<r.bit) != 0
	case syscallFilter:
		return !slices.ContainsFunc(r.syscalls, func(name string) bool { return !g.syscalls(name) })
	case writablePaths:
		return g.writable(r.Value)
	}
	return true
}

// LackingHere are the capabilities that this process lacks of those that the agent
// needs.
func LackingHere() ([]Right, error) {
	text, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return nil, fmt.Errorf("read which capabilities this process has: %w", err)
	}
	return lackingOf(string(text))
}

// lackingOf reads proc_pid_status(5).
func lackingOf(status string) ([]Right, error) {
	for line := range strings.Lines(status) {
		text, is := strings.CutPrefix(line, "CapEff:")
		if !is {
			continue
		}
		set, err := strconv.ParseUint(strings.TrimSpace(text), 16, 64)
		if err != nil {
			return nil, fmt.Errorf("read which capabilities this process has: %w", err)
		}
		g := grant{capabilities: set, known: true}
		return slices.DeleteFunc(Rights(), func(r Right) bool { return r.Setting != capabilitySet || g.has(r) }), nil
	}
	return nil, nil // a kernel that does not say
}
