// Package cgroup says where the cgroup v2 tree of this host is mounted and
// which cgroup a process is in. It reads and changes nothing; freezing is the
// business of package freeze.
package cgroup

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"snapd/internal/advice"
	"snapd/internal/proc"
)

// ErrNone means that this host has no cgroup v2 tree.
var ErrNone = errors.New("no cgroup v2 tree is mounted")

// Mount finds the root of the cgroup v2 tree: /sys/fs/cgroup, or on hosts
// that also have v1 hierarchies often /sys/fs/cgroup/unified. ErrNone when
// there is none.
func Mount() (string, error) {
	mounts, err := proc.Own()
	if err != nil {
		return "", err
	}
	return rootIn(mounts)
}

func rootIn(mounts proc.Table) (string, error) {
	for _, m := range mounts {
		if m.Type == "cgroup2" && m.Root == "/" { // not a part of the tree, mounted elsewhere
			return m.Point, nil
		}
	}
	return "", ErrNone
}

// Membership is what /proc/<pid>/cgroup says about one process.
type Membership struct {
	V2 string            // below the v2 tree's root, starting with a slash; "" without a v2 tree
	V1 map[string]string // by controller, such as "freezer"
}

// Of reads the membership of a process; pid 0 means this process.
func Of(pid int) (Membership, error) {
	name := "self"
	if pid > 0 {
		name = strconv.Itoa(pid)
	}
	content, err := os.ReadFile("/proc/" + name + "/cgroup")
	if err != nil {
		return Membership{}, err
	}
	return parse(string(content))
}

func parse(content string) (Membership, error) {
	m := Membership{V1: map[string]string{}}
	for line := range strings.Lines(content) {
		// A path may contain colons, so only the first two separate.
		fields := strings.SplitN(strings.TrimSuffix(line, "\n"), ":", 3)
		if len(fields) != 3 {
			return m, fmt.Errorf("read the cgroups of a process: unexpected line %q", line)
		}
		path := strings.TrimSuffix(fields[2], " (deleted)")
		if fields[0] == "0" && fields[1] == "" {
			m.V2 = path
			continue
		}
		for controller := range strings.SplitSeq(fields[1], ",") {
			m.V1[controller] = path
		}
	}
	return m, nil
}

// Carries tells whether one component of any of the paths is the cgroup of
// the container or unit id.
func (m Membership) Carries(id string) bool {
	if Cut(m.V2, id) != "" {
		return true
	}
	for _, path := range m.V1 {
		if Cut(path, id) != "" {
			return true
		}
	}
	return false
}

// Cut returns path up to and with the component that carries id, "" when
// none does. What a container makes below its own cgroup is cut off.
func Cut(path, id string) string {
	if id == "" {
		return ""
	}
	end := 0
	for part := range strings.SplitSeq(path, "/") {
		end += len(part)
		if names(part, id) {
			return path[:end]
		}
		end++ // the slash
	}
	return ""
}

// names tells whether a component is that of id: as Docker's cgroupfs driver
// writes it (<id>), as systemd does (docker-<id>.scope), or a unit by its name.
func names(part, id string) bool {
	if part == id {
		return true
	}
	rest, scope := strings.CutSuffix(part, ".scope")
	return scope && (rest == id || strings.HasSuffix(rest, "-"+id))
}

// Dir is the absolute directory of a path below the v2 tree's mount. A path
// that leaves the tree belongs to a cgroup namespace above ours.
func Dir(mount, path string) (string, error) {
	if path == "" || strings.Contains("/"+path+"/", "/../") {
		return "", advice.With(fmt.Errorf("cgroup %q lies outside the tree that is seen here", path), "run snapd in the host's cgroup namespace")
	}
	return filepath.Join(mount, path), nil
}
