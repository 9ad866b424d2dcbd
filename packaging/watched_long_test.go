//go:build outside && long

package packaging_test

import (
	"strings"
	"testing"
	"time"
)

// watchedPool makes a thin pool that is there again after a boot, with a volume
// whose restore point alone holds 150 MiB of it.
const watchedPool = `set -e
truncate -s 1G /srv/pv.img
cat >/etc/systemd/system/pv.service <<'X'
[Unit]
Description=Disk of the test

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/bin/sh -ec 'losetup -f /srv/pv.img; vgchange -q -a y vg'

[Install]
WantedBy=multi-user.target
X
systemctl -q enable pv.service
pv=$(losetup -f --show /srv/pv.img)
pvcreate -q $pv >/dev/null
vgcreate -q vg $pv >/dev/null
lvcreate -q -y -L 600M --poolmetadatasize 16M -T vg/pool >/dev/null
lvcreate -q -y -V 256M -T vg/pool -n one >/dev/null
lvcreate -q -y -V 1G -T vg/pool -n others >/dev/null
mkfs.ext4 -q /dev/vg/one
mkdir -p /srv/l1
mount /dev/vg/one /srv/l1
dd if=/dev/urandom of=/srv/l1/a bs=1M count=150 conv=fsync status=none
cat >>/etc/snapd-agent/snapd.toml <<'X'

[group.pooled]
paths = ["/srv/l1"]
repositories = []
X
snapd snapshot pooled
rm /srv/l1/a
sync -f /srv/l1
fstrim /srv/l1
`

// TestPoolsAreWatched after a boot and after the agent was killed, although
// no call comes: a neighbour that writes more than the pool has room for, as fast
// as it can, gets the room of our restore point, and no error.
func TestPoolsAreWatched(t *testing.T) {
	h := newHost(t)
	h.sh(watchedPool)
	if err := h.Reboot(t.Context()); err != nil {
		t.Fatal(err)
	}
	// The status of a unit outlives its process.
	const watches = `systemctl is-active -q snapd-agent.service && systemctl show -p StatusText snapd-agent.service | grep "watches the pools of LVM"`
	t.Logf("watched %s after the first shell of the boot", h.await(2*time.Minute, watches).Round(time.Second))
	h.says(0, "systemctl kill -s KILL snapd-agent.service")
	h.await(30*time.Second, "! systemctl is-active -q snapd-agent.service")
	// What the timer does every ten minutes.
	h.says(0, "systemctl start snapd-agent-look.service")
	t.Logf("and %s after the next look", h.await(time.Minute, watches).Round(time.Second))
	h.says(0, `timeout 180 sh -c 'dd if=/dev/zero of=/dev/vg/others bs=1M count=500 oflag=direct'`)
	h.await(time.Minute, `journalctl -b -u snapd-agent.service | grep "DROPPED the snapshot vg/snapd_"`)
	if left := h.sh("lvs --noheadings -o lv_name @snapd"); left != "" {
		t.Errorf("left: %s", left)
	}
	if pool := h.sh("dmsetup status vg-pool-tpool"); !strings.Contains(pool, " rw ") {
		t.Errorf("the pool is not well: %s", pool)
	}
	h.says(0, "journalctl -b -k --no-pager | grep device-mapper || true; journalctl -b -u snapd-agent.service --no-pager | tail -n 20")
	// The next command tells a person, too.
	h.says(0, "snapd status", "DROPPED the snapshot")
}
