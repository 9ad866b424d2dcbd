package doctor

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"snapd/internal/advice"
	"snapd/internal/agent"

	"golang.org/x/sys/unix"
)

// host looks at what the kernel and logind offer, and at what a killed snapd
// left here.
func (d doctor) host() []Check {
	return append([]Check{d.runDir(), d.leftovers(), cgroups(), d.inhibitor(), memory(d.Agent.State)}, d.orphans()...)
}

// orphans are snapshots of snapd that belong to no restore point, a line for each
// dataset, as the last prune found them. Those that are nothing to this
// installation are no trouble.
func (d doctor) orphans() []Check {
	const name = "orphaned snapshots"
	out := []Check{}
	strange, datasets := 0, 0
	for _, o := range d.Agent.Orphans() {
		if o.Strange {
			strange, datasets = strange+o.Snapshots, datasets+1
		} else {
			out = append(out, Check{Check: name, Level: Warn, Why: o.String()})
		}
	}
	if strange > 0 {
		out = append(out, well(name, "note: %d on %d datasets that no group has, made by another host or installation of snapd: they stay", strange, datasets))
	}
	return out
}

// runDir: a journal must not survive a power cut, which thaws by itself.
func (d doctor) runDir() Check {
	var st unix.Statfs_t
	if err := unix.Statfs(d.Agent.Run, &st); err != nil {
		return ill("run directory", fmt.Errorf("%s: %w", d.Agent.Run, err))
	}
	if st.Type != unix.TMPFS_MAGIC {
		return ill("run directory",
			advice.In(agent.NoTmpfs, fmt.Errorf("%s is not on a tmpfs: after a power cut snapd thaw would find stale journals there", d.Agent.Run)))
	}
	return well("run directory", "%s is on a tmpfs", d.Agent.Run)
}

func cgroups() Check {
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return ill("cgroup v2", err)
	}
	if !strings.Contains(string(mounts), " - cgroup2 ") {
		return Check{
			Check: "cgroup v2", Level: Warn, Why: "no cgroup v2 tree is mounted: containers are frozen by docker pause, which takes 50 to 75 ms each way and turns a HEALTHCHECK unhealthy",
			Do: "boot with systemd.unified_cgroup_hierarchy=1, or mount cgroup2 on /sys/fs/cgroup/unified",
		}
	}
	return well("cgroup v2", "containers can be frozen without the engine")
}

// inhibitor: without logind a shutdown can fall into a window, which costs
// the point and nothing else.
func (d doctor) inhibitor() Check {
	const name = "shutdown inhibitor"
	if d.Agent.Inhibit == nil {
		return well(name, "not used")
	}
	release, err := d.Agent.Inhibit("snapd doctor looks whether it works")
	if err == nil {
		err = release()
	}
	if err != nil {
		return well(name, "%v; that costs at most the point being taken", err)
	}
	return well(name, "logind grants it")
}

// leftovers: what a killed window froze and could not be thawed yet.
func (d doctor) leftovers() Check {
	if left := d.Agent.Leftovers(); len(left) > 0 {
		return Check{Check: "windows", Why: strings.Join(left, "; "), Do: "run: snapd thaw"}
	}
	return well("windows", "nothing was left frozen")
}

// memory is where restore points are remembered.
func memory(dir string) Check {
	const name = "record of points"
	f, err := os.CreateTemp(dir, ".doctor-")
	if err != nil {
		return Check{Check: name, Why: err.Error() + ": no restore point can be taken", Do: "make " + dir + " writable (systemd-tmpfiles --create snapd-agent.conf makes it), and look whether its filesystem is full or read-only"}
	}
	if err := errors.Join(f.Close(), os.Remove(f.Name())); err != nil {
		return Check{Check: name, Why: err.Error(), Do: "look whether the filesystem of " + dir + " is damaged"}
	}
	return Check{Check: name, OK: true, Why: dir + " can be written to"}
}
