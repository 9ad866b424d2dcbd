//go:build guest

package vmtest_test

import (
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"snapd/internal/vmtest"
)

// sh runs one shell line that must succeed, and returns what it printed.
func sh(t *testing.T, line string) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "bash", "-euo", "pipefail", "-c", line).CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", line, err, out)
	}
	return string(out)
}

// afterwards runs one shell line when the test has ended, whatever it left.
func afterwards(t *testing.T, line string) {
	t.Helper()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), time.Minute)
		defer cancel()
		if out, err := exec.CommandContext(ctx, "bash", "-c", line).CombinedOutput(); err != nil {
			t.Errorf("%s: %v\n%s", line, err, out)
		}
	})
}

// await looks again until good is true.
func await(t *testing.T, what string, good func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !good(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited a minute for: %s", what)
		}
	}
}

func TestTheSystemIsUp(t *testing.T) {
	vmtest.Inside(t)
	if got := strings.TrimSpace(sh(t, "systemctl is-system-running")); got != "running" {
		t.Errorf("the system is %s", got)
	}
	if got := strings.TrimSpace(sh(t, "systemctl is-active docker.service systemd-logind.service dbus.service | sort -u")); got != "active" {
		t.Errorf("docker, logind, D-Bus: %s", got)
	}
	if got := sh(t, "stat -f -c %T /sys/fs/cgroup"); strings.TrimSpace(got) != "cgroup2fs" {
		t.Errorf("/sys/fs/cgroup is %s", got)
	}
	// A test's files are where go test would have them.
	if _, err := os.Stat(filepath.Join("testdata", "greeting")); err != nil {
		t.Error(err)
	}
	if dir, err := os.Getwd(); err != nil || filepath.Base(dir) != "vmtest" {
		t.Errorf("directory %s, %v", dir, err)
	}
}

func TestZFSSnapshotSendReceive(t *testing.T) {
	vmtest.Inside(t)
	dir := t.TempDir()
	sh(t, "truncate -s 512M "+dir+"/disk && zpool create -m none inside "+dir+"/disk")
	afterwards(t, "zpool destroy -f inside")
	sh(t, "zfs create -o mountpoint="+dir+"/from inside/from && echo first >"+dir+"/from/file && zfs snapshot inside/from@a")
	sh(t, "echo second >"+dir+"/from/file && zfs snapshot inside/from@b")
	sh(t, "zfs send inside/from@a | zfs receive -o mountpoint="+dir+"/to inside/to")
	if got := sh(t, "cat "+dir+"/to/file"); got != "first\n" {
		t.Errorf("after the full stream the file holds %q", got)
	}
	sh(t, "zfs send -i @a inside/from@b | zfs receive -F inside/to")
	if got := sh(t, "cat "+dir+"/to/file"); got != "second\n" {
		t.Errorf("after the increment the file holds %q", got)
	}
	guids := strings.Fields(sh(t, "zfs get -H -o value guid inside/from@b inside/to@b"))
	if len(guids) != 2 || guids[0] != guids[1] {
		t.Errorf("guids of what was sent and received: %v", guids)
	}
}

func TestThinSnapshotAndDelta(t *testing.T) {
	vmtest.Inside(t)
	dir := t.TempDir()
	loop := strings.TrimSpace(sh(t, "truncate -s 512M "+dir+"/disk && losetup --find --show "+dir+"/disk"))
	afterwards(t, "losetup -d "+loop)
	sh(t, "pvcreate -q "+loop+" && vgcreate -q inside "+loop)
	afterwards(t, "vgremove -qff inside && pvremove -q "+loop)
	sh(t, "lvcreate -q --type thin-pool -L 256M -c 64k -n pool inside && lvcreate -q -V 128M -T inside/pool -n origin")
	sh(t, "mkfs.ext4 -q -E nodiscard /dev/inside/origin && mount /dev/inside/origin /mnt")
	afterwards(t, "umount /mnt")
	sh(t, "lvcreate -q -s -kn -n before inside/origin")
	sh(t, "dd if=/dev/urandom of=/mnt/file bs=1M count=4 conv=fsync status=none")
	sh(t, "lvcreate -q -s -kn -n after inside/origin")

	ids := strings.Fields(sh(t, "lvs --noheadings -o thin_id inside/before inside/after"))
	if len(ids) != 2 {
		t.Fatalf("thin ids: %v", ids)
	}
	sh(t, "dmsetup message inside-pool-tpool 0 reserve_metadata_snap")
	delta := sh(t, "thin_delta -m --thin1 "+ids[0]+" --thin2 "+ids[1]+" /dev/mapper/inside-pool_tmeta")
	sh(t, "dmsetup message inside-pool-tpool 0 release_metadata_snap")
	// 4 MiB in blocks of 64 KiB, and what the filesystem noted about them.
	if !strings.Contains(delta, "<right_only") && !strings.Contains(delta, "<different") {
		t.Errorf("four mebibytes were written, thin_delta shows none:\n%s", delta)
	}
}

func TestContainerFreezesAndThaws(t *testing.T) {
	vmtest.Inside(t)
	sh(t, "docker run -d --name ticker --network none busybox sh -c 'while true; do date +%s%N >/data/tick; usleep 10000; done'")
	afterwards(t, "docker rm -f ticker")
	pid := strings.TrimSpace(sh(t, "docker inspect -f '{{.State.Pid}}' ticker"))
	group := "/sys/fs/cgroup" + strings.TrimSpace(sh(t, "sed -n 's/^0:://p' /proc/"+pid+"/cgroup"))
	tick := func() string {
		text, err := os.ReadFile("/proc/" + pid + "/root/data/tick")
		if err != nil {
			return ""
		}
		return string(text)
	}
	frozen := func(want string) func() bool {
		return func() bool {
			text, err := os.ReadFile(group + "/cgroup.events")
			return err == nil && strings.Contains(string(text), "frozen "+want+"\n")
		}
	}
	write := func(value string) {
		if err := os.WriteFile(group+"/cgroup.freeze", []byte(value), 0); err != nil {
			t.Fatal(err)
		}
	}
	await(t, "the container's first tick", func() bool { return tick() != "" })

	write("1")
	await(t, "frozen 1", frozen("1"))
	before := tick()
	time.Sleep(200 * time.Millisecond) // twenty ticks of a container that runs
	if after := tick(); after != before {
		t.Errorf("the frozen container has written: %q, then %q", before, after)
	}
	write("0")
	await(t, "frozen 0", frozen("0"))
	await(t, "a tick after the thaw", func() bool { return tick() != before })
}

func TestInhibitorIsListed(t *testing.T) {
	vmtest.Inside(t)
	holder := exec.CommandContext(t.Context(), "systemd-inhibit", "--what=shutdown", "--who=vmtest", "--why=a test", "--mode=block", "sleep", "infinity")
	if err := holder.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = holder.Process.Kill()
		_ = holder.Wait() // killed, as wanted
	}()
	listed := func() bool {
		var answer struct{ Data [][][]any }
		text := sh(t, "busctl --json=short call org.freedesktop.login1 /org/freedesktop/login1 org.freedesktop.login1.Manager ListInhibitors")
		if err := json.Unmarshal([]byte(text), &answer); err != nil {
			t.Fatalf("%v: %s", err, text)
		}
		for _, list := range answer.Data {
			for _, lock := range list {
				if len(lock) >= 4 && lock[0] == "shutdown" && lock[1] == "vmtest" && lock[3] == "block" {
					return true
				}
			}
		}
		return false
	}
	await(t, "the lock in ListInhibitors", listed)
}

func TestDatabasesAnswer(t *testing.T) {
	vmtest.Inside(t)
	for _, database := range []struct{ name, unit, ask, want string }{
		{"PostgreSQL", "postgresql@17-main.service", "runuser -u postgres -- psql -Atc 'select 6*7'", "42"},
		{"MariaDB", "mariadb.service", "mariadb -N -e 'select 6*7'", "42"},
		{"Redis", "redis-server.service", "redis-cli ping", "PONG"},
	} {
		t.Run(database.name, func(t *testing.T) {
			sh(t, "systemctl start "+database.unit)
			afterwards(t, "systemctl stop "+database.unit)
			if got := strings.TrimSpace(sh(t, database.ask)); got != database.want {
				t.Errorf("%s: got %q, want %q", database.ask, got, database.want)
			}
		})
	}
}
