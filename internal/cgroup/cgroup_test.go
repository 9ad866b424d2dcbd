package cgroup

import (
	"errors"
	"strings"
	"testing"

	"snapd/internal/proc"
)

func TestMount(t *testing.T) {
	cases := []struct{ name, mountinfo, want string }{
		{"v2 only", "35 24 0:30 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate\n", "/sys/fs/cgroup"},
		{"hybrid", "40 31 0:37 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,name=systemd\n41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n", "/sys/fs/cgroup/unified"},
		{"part of the tree first", "50 1 0:38 /docker/x /mnt/part rw - cgroup2 cgroup2 rw\n41 31 0:38 / /cg\\040v2 rw - cgroup2 cgroup2 rw\n", "/cg v2"},
		{"v1 only", "40 31 0:37 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,name=systemd\n", ""},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			mounts, err := proc.ReadTable(strings.NewReader(c.mountinfo))
			if err != nil {
				t.Fatal(err)
			}
			got, err := rootIn(mounts)
			if got != c.want || (c.want == "") != errors.Is(err, ErrNone) {
				t.Errorf("got %q, %v; want %q", got, err, c.want)
			}
		})
	}
}

func TestParse(t *testing.T) {
	m, err := parse("9:name=systemd:/docker/abc\n4:cpu,cpuacct:/docker/abc\n0::/a:b/docker-abc.scope/init (deleted)\n")
	if err != nil {
		t.Fatal(err)
	}
	if m.V2 != "/a:b/docker-abc.scope/init" || m.V1["cpuacct"] != "/docker/abc" {
		t.Errorf("got %+v", m)
	}
	if _, err := parse("nonsense\n"); err == nil {
		t.Error("nonsense was accepted")
	}
}

func TestCut(t *testing.T) {
	id := strings.Repeat("0123456789abcdef", 4)
	cases := []struct{ name, path, want string }{
		{"cgroupfs", "/docker/" + id, "/docker/" + id},
		{"systemd", "/system.slice/docker-" + id + ".scope", "/system.slice/docker-" + id + ".scope"},
		{"podman", "/machine.slice/libpod-" + id + ".scope/container", "/machine.slice/libpod-" + id + ".scope"},
		{"a child that the container made", "/docker/" + id + "/init.scope", "/docker/" + id},
		{"only similar", "/docker/x" + id, ""},
		{"another", "/docker/other", ""},
		{"root", "/", ""},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			if got := Cut(c.path, id); got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
	if got := Cut("/docker/x", ""); got != "" {
		t.Errorf("an empty id matched %q", got)
	}
}

func TestDirStaysInTheTree(t *testing.T) {
	if _, err := Dir("/sys/fs/cgroup", "/../../docker/x"); err == nil {
		t.Error("a path above the tree was accepted")
	}
	if got, err := Dir("/cg", "/docker/x"); err != nil || got != "/cg/docker/x" {
		t.Errorf("got %q, %v", got, err)
	}
}
