//go:build outside && long

package packaging_test

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// threeStorages makes datasets on each storage (on ZFS filesystems, a volume and
// an encrypted one), all with filesystems that a container writes to, and one group
// for each: its members are frozen, its container has a hook and a lock, and its
// repository is sent what was taken.
const threeStorages = `set -e
truncate -s 1G /srv/z1.img /srv/z2.img
truncate -s 3G /srv/pv.img
zpool create -O mountpoint=none z1 /srv/z1.img
zpool create -O mountpoint=none z2 /srv/z2.img
zfs create -o mountpoint=/srv/z1 z1/one
zfs create -o mountpoint="/srv/z 2" "z2/two and"
zfs create -V 300M z1/disk
echo a passphrase >/root/zfs.key
zfs create -o encryption=on -o keyformat=passphrase -o keylocation=file:///root/zfs.key -o mountpoint=/srv/z4 z2/encrypted
udevadm settle
mkfs.ext4 -q /dev/zvol/z1/disk
mkdir -p /srv/z3 /srv/l1 /srv/l2
mount /dev/zvol/z1/disk /srv/z3
pv=$(losetup -f --show /srv/pv.img)
pvcreate -q $pv >/dev/null
vgcreate -q vg $pv >/dev/null
lvcreate -q -y --type thin-pool -L 2G -n pool vg >/dev/null
lvcreate -q -y -V 400M --thinpool pool -n one vg >/dev/null
lvcreate -q -y -V 400M --thinpool pool -n two-2 vg >/dev/null
mkfs.ext4 -q /dev/vg/one
mkfs.xfs -q /dev/vg/two-2
mount /dev/vg/one /srv/l1
mount /dev/vg/two-2 /srv/l2
run() {
    name=$1; shift
    docker run -d --restart always --name $name "$@" bb sh -c 'i=0; while :; do i=$((i+1)); for d in /d*; do echo $i >$d/log; done; sleep 0.5; done' >/dev/null
}
docker rm -f writer >/dev/null
systemctl stop snapd-agent-resume.timer snapd-agent-look.timer # a unit that looks meanwhile for something to ship would find the dataset busy
run zedfs -v /srv/z1:/d1 -v "/srv/z 2:/d2" -v /srv/z3:/d3 -v /srv/z4:/d4
run btree -v "/srv/data1/a b:/d1" -v "/srv/data2/a b:/d2"
run lvmed -v /srv/l1:/d1 -v /srv/l2:/d2
sed -i '/^\[group.two\]/,$d' /etc/snapd-agent/snapd.toml
for g in zedfs btree lvmed; do
    cat >>/etc/snapd-agent/snapd.toml <<X
[group.$g]
containers = ["$g"]
max-window = "5m"
hold-timeout = "5m"
keep-local = "1s"
keep = "1 last"
[group.$g.container.$g]
exec-before = "sh -c 'date >/d1/before'"
hold = "sh -c 'echo locked; cat; date >/d1/released'"
exec-after = "sh -c 'date >/d1/after'"
X
done
snapd schedule >/dev/null
`

// TestSandbox: everything that runs in the agent works under its unit's
// sandbox, and under the narrower ones for hosts with one storage: hooks, locks,
// the guard, the window, and the drivers of all storages, with a real container
// over several domains. Each storage, under each sandbox, is a test of its own,
// so that one that fails does not hide the others.
func TestSandbox(t *testing.T) {
	h := newHost(t)
	h.sh(threeStorages)
	storages := []sandboxed{
		{name: "zfs", group: "zedfs", datasets: 4, frozen: 1, restore: "--to zfs:z1/back", remove: "zfs destroy -r z1/back"},
		{name: "btrfs", group: "btree", datasets: 2, restore: "--to btrfs:/srv/data1/back", remove: "find /srv/data1/back -mindepth 1 -maxdepth 4 -inum 256 -exec btrfs -q subvolume delete {} +; rm -rf /srv/data1/back"},
		{name: "lvm", group: "lvmed", datasets: 2, frozen: 2, restore: "--dataset vg/one --to lvm:vg/pool/back", remove: "lvremove -qy vg/back"},
	}
	h.keep("sandbox", h.exposure())
	for _, s := range storages {
		t.Run(s.name, func(t *testing.T) {
			t.Run("whole", func(t *testing.T) {
				h := h.afresh(t, s)
				h.works("the whole sandbox", s)
				h.guarded(s.group)
			})
			t.Run("own", func(t *testing.T) {
				h := h.afresh(t, s)
				h.sh("mkdir -p $(dirname " + onlyOne + ") && cp /usr/share/snapd-agent/drop-ins/" + s.name + "-only.conf " + onlyOne + " && systemctl daemon-reload")
				h.verified()
				h.keep("sandbox-"+s.name, h.exposure())
				h.works("its own sandbox", s)
				h.guarded(s.group)
				h.leavesOut(s, storages)
			})
		})
	}
	t.Run("suspended", func(t *testing.T) { h.afresh(t, storages[2]).unsuspends() })
}

// unsuspends: a volume that a killed command of LVM left suspended is resumed by
// each unit that thaws, in its own sandbox.
func (h *host) unsuspends() {
	h.t.Helper()
	h.says(0, "snapd snapshot lvmed", "quiesced") // only where there are points of ours
	const state = "cat /sys/block/$(basename $(readlink -f /dev/mapper/vg-one))/dm/suspended"
	for unit, line := range map[string]string{
		"snapd-agent.service":      "systemctl is-active snapd-agent.service && systemctl stop snapd-agent.service", // its ExecStopPost=
		"snapd-agent-thaw.service": "systemctl start snapd-agent-thaw.service",
	} {
		h.says(0, "snapd list lvmed >/dev/null && dmsetup suspend vg-one && "+state, "1")
		h.says(0, line+" && "+state+"; journalctl -b -u "+unit+" -n 5 -o cat --no-pager", "0\n", "recovered: logical volume vg-one")
		if out, status := h.run("timeout 60 sh -c 'date >/srv/l1/after && sync -f /srv/l1/after' || { dmsetup resume vg-one; exit 1; }"); status != 0 {
			h.t.Errorf("after %s a writer still waits: %s", unit, out)
		}
	}
}

// onlyOne is where an administrator puts the drop-in for one storage.
const onlyOne = "/etc/systemd/system/snapd-agent.service.d/10-storage.conf"

// afresh is the same host for another test, without what the one before may have
// left when it failed.
func (h *host) afresh(t *testing.T, s sandboxed) *host {
	t.Helper()
	h = &host{Guest: h.Guest, t: t}
	h.sh("rm -f " + onlyOne + "; kill -CONT $(systemctl show -P MainPID snapd-agent.service); systemctl daemon-reload; systemctl stop snapd-agent.service; { " + s.remove + "; } >/dev/null 2>&1; true")
	return h
}

// sandboxed is a group on one storage.
type sandboxed struct {
	name, group     string
	datasets        int
	frozen          int    // filesystems that are frozen beside the container
	restore, remove string // where its latest point is restored to, and how that goes again
}

// works takes and ships restore points of a group through the agent, prunes, and
// restores what was shipped: the sandbox may have refused nothing.
func (h *host) works(what string, s sandboxed) {
	h.t.Helper()
	since := h.sh("sleep 1; date '+%F %T'")
	for n := range 2 {
		if out, status := h.run(fmt.Sprintf("snapd --json snapshot --ship %s 2>/root/said >/root/points; s=$?; cat /root/said /root/points; exit $s", s.group)); status != 0 {
			h.t.Fatalf("%s, point %d: exit status %d: %s", what, n, status, out)
		}
		if said := h.sh("grep -iE 'warn|denied|permitted|read-only' /root/said; true"); said != "" {
			h.t.Errorf("%s: it says %s", what, said)
		}
		want := []string{
			`.consistency == "quiesced"`, `.numbers.main > 0`, `(.warnings // [] | length) == 0`,
			fmt.Sprintf(`(.datasets | length) == %d and all(.datasets[]; .driver == "%s")`, s.datasets, s.name),
			fmt.Sprintf(`(.shipped | length) == %d`, s.datasets),
			`([.members[] | select(.kind == "container" and .how == "cgroup")] | length) == 1`,
			fmt.Sprintf(`([.members[] | select(.kind == "filesystem" and .how == "fifreeze")] | length) == %d`, s.frozen),
			fmt.Sprintf(`(.members | length) == %d`, 1+s.frozen),
		}
		if n > 0 { // LVM finds what changed in its pool's metadata, Btrfs and ZFS by a send
			want = append(want, `all(.shipped[]; .base != null)`)
		}
		for i, w := range want {
			want[i] = fmt.Sprintf("(if (%s) then empty else %d end)", w, i)
		}
		if out := h.sh("jq -c '.points[0] | [" + strings.Join(want, ",") + "]' /root/points"); out != "[]" {
			h.t.Errorf("%s: the point is not what it should be: of these, %s are not so: %q", what, out, want)
		}
	}
	// Of what lies here a base may have to stay, but never all of it.
	const here = ` | jq '[.keep[], .drop[] | select(.where == "here")] | length'`
	h.says(0, "snapd --json prune --dry-run "+s.group+" >/root/plan; jq -c '[.drop[].where] | unique' /root/plan", `"main"`)
	before := h.sh("cat /root/plan" + here)
	h.says(0, "snapd --json run "+s.group, `"quiesced"`)
	h.says(0, "test $(snapd --json prune --dry-run "+s.group+here+") -le "+before)
	h.says(0, fmt.Sprintf(`snapd --json prune --dry-run %s | jq -e '(.drop | length) == 0'`, s.group), "true")
	h.says(0, "snapd --json list "+s.group+" | jq -c '[.points[] | select(.numbers.main > 0)] | length' | grep -x 1", "1")
	if pid := h.sh("systemctl show -P MainPID snapd-agent"); pid == "0" {
		h.t.Errorf("%s: not the agent did it", what)
	}
	if faults := h.sh(fmt.Sprintf("journalctl -u snapd-agent --since '%s' -o cat --no-pager | grep -iE 'warn|denied|permitted|read-only|cannot|udev' ; journalctl -u snapd-agent --since '%[1]s' -p warning -o cat --no-pager; true", since)); faults != "" {
		h.t.Errorf("%s: the journal says %s", what, faults)
	}
	h.says(0, "snapd --kit /root/kit verify")
	h.says(0, "snapd --kit /root/kit restore latest:"+s.group+" "+s.restore+" && "+s.remove)
}

// leavesOut: what a narrower sandbox shuts out is refused, with the reason.
func (h *host) leavesOut(s sandboxed, all []sandboxed) {
	h.t.Helper()
	for _, other := range all {
		if other.name != s.name {
			h.says(1, "snapd snapshot "+other.group, "only "+s.name+" is used here", "10-storage.conf")
		}
	}
	h.says(1, "snapd doctor", "only "+s.name+" is used here")
}

// guarded looks at the guard of a window that is held open: it runs at a
// real-time priority, in locked memory, in the agent's sandbox.
func (h *host) guarded(group string) {
	h.t.Helper()
	h.sh(strings.ReplaceAll(inWindow, `"two"`, `"`+group+`"`))
	guard := h.sh("pgrep -o -f '^snapd-guard '")
	out := h.sh("chrt -a -p " + guard + "; grep -E '^(VmLck|NoNewPrivs|Seccomp|CapBnd):' /proc/" + guard + "/status; cat /proc/" + guard + "/cgroup")
	h.t.Log(out)
	h.says(0, "chrt -a -p $(systemctl show -P MainPID snapd-agent)", "SCHED_FIFO")
	for _, want := range []string{"SCHED_FIFO", "NoNewPrivs:\t1", "Seccomp:\t2", "snapd-agent.service"} {
		if !strings.Contains(out, want) {
			h.t.Errorf("the guard of %s: no %q in %s", group, want, out)
		}
	}
	if strings.Contains(out, "VmLck:\t       0 kB") {
		h.t.Errorf("the guard of %s has not locked its memory: %s", group, out)
	}
	h.sh("kill -CONT $(systemctl show -P MainPID snapd-agent)")
	h.await(time.Minute, "! ls /run/snapd-agent/window-*")
	h.await(time.Minute, "! pgrep -f '^snapd snapshot "+group+"'")
	h.says(0, "cat /root/snapshot.log; ! pgrep -f '^snapd-guard '", "quiesced")
}
