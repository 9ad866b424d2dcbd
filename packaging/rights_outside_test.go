//go:build outside

package packaging_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	systemd "snapd/internal/host"
)

// ofOthers is a host on which nothing belongs to root: containers run as user 999,
// one of them in a user namespace, and the filesystems' roots are theirs.
const ofOthers = `set -e
mkdir -p /var/log/journal && journalctl --flush
dpkg -i /root/snapd-agent.deb >/root/dpkg.log 2>&1 || { cat /root/dpkg.log; exit 1; }
for n in one two; do
    truncate -s 1G /srv/$n.img
    mkfs.btrfs -q /srv/$n.img
    mkdir -p /srv/$n
    mount -o loop /srv/$n.img /srv/$n
    btrfs -q subvolume create "/srv/$n/a b"
done
truncate -s 1G /srv/pv.img
pv=$(losetup -f --show /srv/pv.img)
pvcreate -q $pv >/dev/null
vgcreate -q vg $pv >/dev/null
lvcreate -q -y --type thin-pool -L 800M -n pool vg >/dev/null
for n in ext xfs; do
    lvcreate -q -y -V 400M --thinpool pool -n $n vg >/dev/null
    mkdir -p /srv/$n
done
mkfs.ext4 -q /dev/vg/ext
mkfs.xfs -q /dev/vg/xfs
mount /dev/vg/ext /srv/ext
mount /dev/vg/xfs /srv/xfs
mkdir -p /etc/docker /srv/bb/bin
echo '{"userns-remap": "default"}' >/etc/docker/daemon.json
systemctl restart docker
space=$(($(awk -F: '$1 == "dockremap" {print $2}' /etc/subuid) + 999))
chown 999 /srv/one "/srv/one/a b" /srv/ext
chown $space /srv/two "/srv/two/a b" /srv/xfs
chmod 700 "/srv/one/a b" "/srv/two/a b" /srv/ext /srv/xfs
cp /bin/busybox /srv/bb/bin/
for a in sh sleep cat; do ln -s busybox /srv/bb/bin/$a; done
tar -C /srv/bb -c . | docker import - bb >/dev/null
run() {
    name=$1; shift
    docker run -d --name $name --user 999 "$@" bb sh -c 'while :; do echo x >>/d/log; sleep 0.5; done' >/dev/null
}
run own --userns host -v "/srv/one/a b:/d"
run spaced -v "/srv/two/a b:/d"
run ownvolume --userns host -v /srv/ext:/d
run spacedvolume -v /srv/xfs:/d
cat >/etc/snapd-agent/snapd.toml <<'X'
[group.btrees]
containers = ["own", "spaced"]
repositories = []
max-window = "5m"
hook-timeout = "30s"
hold-timeout = "5m"
[group.btrees.container.own]
hold = "sh -c 'echo locked; cat'"
exec-before = "sh -c 'test ! -e /d/hang || exec sleep 1234'"
[group.volumes]
containers = ["ownvolume", "spacedvolume"]
repositories = []
max-window = "5m"
[group.hook]
containers = ["own"]
repositories = []
hook-timeout = "10m"
[group.hook.container.own]
exec-before = "sleep 1235"
[group.hold]
containers = ["spaced"]
repositories = []
hold-timeout = "10m"
[group.hold.container.spaced]
hold = "sleep 1236"
X
systemctl stop snapd-agent-look.timer snapd-agent-resume.timer
cat >/root/tried.sh <<'X'
` + rightsTried + `X
`

// rightsTried are the functions of the trials.
const rightsTried = `
# take: one point of a group; what is so is asked of the point.
take() {
    snapd --json snapshot "$1" 2>/root/said >/root/points
    s=$?
    cat /root/said /root/points
    [ $s = 0 ] && jq -e ".points[0] | $2" /root/points
}
point() {
    case $1 in
    btrees) take btrees '.consistency == "quiesced" and (.warnings // [] | length) == 0' ;;
    volumes) take volumes '.consistency == "frozen" and (.warnings // [] | length) == 0 and ([.members[] | select(.how == "fifreeze")] | length) == 2' ;;
    *) take "$1" '(.warnings // [] | length) == 0' ;;
    esac
}
hanging() { pgrep -f "^sleep $1"; }
# ended: a hook of user 999 that hangs is ended at its time-out.
ended() {
    touch "/srv/one/a b/hang"
    snapd snapshot btrees
    rm "/srv/one/a b/hang"
    ! hanging 1234 || { kill -9 $(hanging 1234); return 1; }
}
# seen: a process of the host that opens, writes and closes is seen by fanotify.
seen() {
    systemd-run -q --unit snapd-test-writer sh -c 'while :; do echo x >>"/srv/one/a b/host"; sleep 0.02; done'
    take btrees '.consistency == "separate" and (.warnings | tostring | contains("while the snapshots were taken"))'
    s=$?
    systemctl stop snapd-test-writer
    return $s
}
# guarded: what chrt and the kernel say of the guard of a window.
guarded() {
    snapd snapshot volumes &
    call=$! s=1
    while kill -0 $call 2>/dev/null; do
        g=$(pgrep -o -f '^snapd-guard ') || continue
        { chrt -a -p $g; grep VmLck: /proc/$g/status; } 2>/dev/null | grep "$1" && s=0 && break
    done
    wait $call
    return $s
}
# probed: whether this kernel takes snapshots of frozen filesystems is tried anew.
probed() {
    find /var/lib/snapd-agent -name probe.json -delete
    systemctl stop snapd-agent.service
    point volumes
}
`

// TestOfOtherUsers: the installed unit has the rights that its code needs where
// nothing belongs to root. TestEachRight takes each of them away.
func TestOfOtherUsers(t *testing.T) {
	h := setUpHost(t, ofOthers)
	h.tried("point btrees")
	h.tried("point volumes")
	h.tried("ended")
	h.tried("seen")
	h.endsWhatIsLeft("a hook of user 999, by the agent's unit", "hook", "sleep 1235", "")
	h.endsWhatIsLeft("a hold in a user namespace, by the unit that thaws", "hold", "sleep 1236", "[Service]\nExecStopPost=\n")
	h.tried("point btrees") // no lock stays
	h.says(0, `snapd --json doctor | jq -e '[.checks[] | select(.check == "rights of the agent").ok] == [true]'`, "true")
}

// tried runs a trial, which must succeed.
func (h *host) tried(works string) {
	h.t.Helper()
	if out, status := h.run(". /root/tried.sh; " + works); status != 0 {
		h.t.Errorf("%s: exit status %d: %s", works, status, out)
	}
}

// dropInFile is where an administrator might take a right away.
const dropInFile = "/etc/systemd/system/snapd-agent.service.d/90-less.conf"

// dropIn puts a drop-in beside those of the package, until the test ends.
func (h *host) dropIn(text string) {
	h.t.Helper()
	const again = "systemctl daemon-reload; systemctl stop snapd-agent.service; systemctl reset-failed snapd-agent.service 2>/dev/null; true"
	h.sh("mkdir -p $(dirname " + dropInFile + "); cat >" + dropInFile + " <<'X'\n" + text + "X\n" + again)
	h.t.Cleanup(func() { // the test's context has ended by then
		if _, err := h.Run(context.WithoutCancel(h.t.Context()), "rm "+dropInFile+"; "+again); err != nil {
			h.t.Error(err)
		}
	})
}

// endsWhatIsLeft kills the agent while a command of a group runs in a container: what
// thaws ends that command.
func (h *host) endsWhatIsLeft(what, group, command, dropIn string) {
	h.t.Run(what, func(t *testing.T) {
		h := &host{Guest: h.Guest, t: t}
		if dropIn != "" {
			h.dropIn(dropIn)
		}
		h.sh("(setsid snapd snapshot " + group + " >/root/killed.log 2>&1 &)")
		h.await(time.Minute, "pgrep -f '^"+command+"'")
		h.sh("kill -9 $(systemctl show -P MainPID snapd-agent.service)")
		h.await(time.Minute, "! pgrep -f '^"+command+"'")
		h.await(time.Minute, "systemctl show -P ActiveState snapd-agent-thaw.service | grep -x inactive")
		h.says(0, "journalctl -b -o cat --no-pager -u 'snapd-agent*' -n 30", "which kept a lock or ran a hook for a killed snapd, was ended")
		h.says(0, "snapd thaw", "Nothing was left")
	})
}

// without takes one right away by a drop-in, sees what fails, and what is said.
func (h *host) without(c trial) {
	h.t.Helper()
	h.dropIn("[Service]\n" + lessOf(c))
	out, status := h.run(". /root/tried.sh; systemctl show snapd-agent.service -P DropInPaths; " + c.works)
	if status == 0 {
		h.t.Errorf("without %s=%s in %s nothing fails: the unit needs it not", c.setting, c.value, dropInFile)
	}
	if !strings.Contains(strings.ToLower(out), strings.ToLower(c.says)) {
		h.t.Errorf("without %s=%s in %s it fails, and does not say %q", c.setting, c.value, dropInFile, c.says)
	}
	if c.setting == "CapabilityBoundingSet" && !strings.Contains(out, "the agent runs without "+c.value) {
		h.t.Errorf("without %s a caller is not told so", c.value)
	}
	if c.setting != "DeviceAllow" { // which nodes a rule is about is not known to systemd
		h.says(1, "snapd doctor", "does not give it "+c.value+" ("+c.setting+"=)", "correct "+c.setting+"= in "+dropInFile)
	}
}

// lessOf are the lines of a drop-in that takes one right away.
func lessOf(c trial) string {
	switch c.setting {
	case "CapabilityBoundingSet", "SystemCallFilter":
		return c.setting + "=~" + c.value + "\n"
	}
	lines := c.setting + "=\n"
	for _, r := range systemd.Rights() {
		if r.Setting == c.setting && r.Value != c.value {
			lines += fmt.Sprintf("%s=%s\n", c.setting, map[bool]string{true: r.Value + " rw", false: "-" + r.Value}[c.setting == "DeviceAllow"])
		}
	}
	return lines
}
