//go:build outside

package packaging_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"snapd/internal/vmtest"
)

// host is a guest on which the package is installed, with two Btrfs filesystems
// and a container that writes to both of them.
type host struct {
	*vmtest.Guest
	t *testing.T
}

// setUp is what an administrator would have done. The group two stands in two
// domains, so that its container is frozen.
const setUp = `set -e
mkdir -p /var/log/journal && journalctl --flush
dpkg -i /root/snapd-agent.deb >/root/dpkg.log 2>&1 || { cat /root/dpkg.log; exit 1; }
for n in 1 2; do
    truncate -s 3G /srv/b$n.img
    mkfs.btrfs -q /srv/b$n.img
    mkdir -p /srv/data$n
    echo "/srv/b$n.img /srv/data$n btrfs loop,nofail 0 0" >>/etc/fstab
    mount /srv/data$n
    btrfs -q subvolume create "/srv/data$n/a b"
done
mkdir -p /srv/bb/bin
cp /bin/busybox /srv/bb/bin/
for a in sh sleep date cat; do ln -s busybox /srv/bb/bin/$a; done
tar -C /srv/bb -c . | docker import - bb >/dev/null
snapd init --repository file:///srv/repo --kit /root/kit >/dev/null
cat >>/etc/snapd-agent/snapd.toml <<'X'

[group.shop]
paths = ["/srv/data1/a b"]

[group.two]
containers = ["writer"]
max-window = "5m"
repositories = []
X
docker run -d --restart always --name writer -v "/srv/data1/a b:/one" -v "/srv/data2/a b:/two" bb \
    sh -c 'i=0; while :; do i=$((i+1)); echo $i >/one/log; echo $i >/two/log; sleep 0.5; done' >/dev/null
# On a busy machine the engine of a guest may need longer than snapd waits for it.
for try in 1 2 3 4 5 6; do snapd schedule >/dev/null && break; sleep 5; done
test -e /run/systemd/generator/snapd-agent.service.d/50-repositories.conf
`

// inWindow stops the agent in the middle of a window of the group two: the
// container stays frozen, and nothing goes on.
const inWindow = `cat >/root/window.py <<'X'
import glob, os, signal, subprocess, sys, time
log = open("/root/snapshot.log", "wb")
for _ in range(30):
    call = subprocess.Popen(["snapd", "snapshot", "two"], stdout=log, stderr=log, start_new_session=True)
    while call.poll() is None:
        for journal in glob.glob("/run/snapd-agent/window-*"):
            try:
                with open(journal, "rb") as f:
                    if not f.read(24).split()[1:2] == [b"open"]:
                        continue
                agent = int(journal.split("-")[-2])
                os.kill(agent, signal.SIGSTOP)
            except (OSError, ValueError):
                continue
            frozen = glob.glob("/sys/fs/cgroup/system.slice/docker-*.scope/cgroup.freeze")
            if any(open(f).read().strip() == "1" for f in frozen):
                sys.exit(0)
            os.kill(agent, signal.SIGCONT)
        time.sleep(0.001)
sys.exit("no window was caught: " + open("/root/snapshot.log").read())
X
python3 /root/window.py`

const writerFrozen = `cat /sys/fs/cgroup/system.slice/docker-*.scope/cgroup.freeze`

func newHost(t *testing.T) *host {
	t.Helper()
	return setUpHost(t, setUp)
}

// setUpHost is a guest with the package in /root, on which a script has run.
func setUpHost(t *testing.T, script string) *host {
	t.Helper()
	h := &host{t: t}
	deb := h.build()
	h.Guest = vmtest.New(t, vmtest.Spec{})
	if err := h.CopyIn(t.Context(), "/root", deb); err != nil {
		t.Fatal(err)
	}
	h.Sh(t, "cd /root && { [ -e snapd-agent.deb ] || mv *.deb snapd-agent.deb; }") // SNAPD_DEB may have any name
	h.Sh(t, script)
	return h
}

// build makes the package of this tree; SNAPD_DEB names one that is there.
func (h *host) build() string {
	h.t.Helper()
	if deb := os.Getenv("SNAPD_DEB"); deb != "" {
		return deb
	}
	build := exec.CommandContext(h.t.Context(), "../scripts/deb")
	if out, err := build.CombinedOutput(); err != nil {
		h.t.Fatalf("build the package: %v\n%s", err, out)
	}
	return "../bin/snapd-agent.deb"
}

// sh runs a line that must succeed, and returns what it said without spaces at
// its ends.
func (h *host) sh(line string) string {
	h.t.Helper()
	return strings.TrimSpace(h.Sh(h.t, line))
}

// run returns what a line says, errors too, and its exit status.
func (h *host) run(line string) (string, int) {
	h.t.Helper()
	r, err := h.Run(h.t.Context(), line)
	if err != nil {
		h.t.Fatal(err)
	}
	h.t.Logf("$ %s\n%s%s[exit status %d]", line, r.Stdout, r.Stderr, r.Status)
	return r.Stdout + r.Stderr, r.Status
}

// says runs a line that must exit with this status and say all of these.
func (h *host) says(status int, line string, words ...string) string {
	h.t.Helper()
	out, got := h.run(line)
	if got != status {
		h.t.Errorf("%s: exit status %d, want %d", line, got, status)
	}
	for _, w := range words {
		if !strings.Contains(out, w) {
			h.t.Errorf("%s does not say %q", line, w)
		}
	}
	return out
}

// patience is how much slower than it should be a busy machine may make a guest.
const patience = 4

// await repeats a line until it succeeds.
func (h *host) await(within time.Duration, line string) time.Duration {
	h.t.Helper()
	begin := time.Now()
	within *= patience
	r, err := h.Run(h.t.Context(), fmt.Sprintf(`end=$(($(date +%%s) + %d)); until { %s; } >/dev/null 2>&1; do
		[ $(date +%%s) -lt $end ] || exit 1; sleep 0.3; done`, int(within.Seconds()), line))
	if err != nil {
		h.t.Fatal(err)
	}
	if r.Status != 0 {
		h.t.Fatalf("not within %s: %s\n%s", within, line, h.sh("journalctl -u 'snapd-agent*' -n 40 --no-pager; systemctl list-units 'snapd*' --all --no-pager"))
	}
	return time.Since(begin)
}

// awaitOff waits until the guest has shut itself down, and boots it again.
func (h *host) awaitOff(within time.Duration) time.Duration {
	h.t.Helper()
	before := strings.Count(h.Console(), "reboot: Power down")
	begin := time.Now()
	for strings.Count(h.Console(), "reboot: Power down") == before {
		if time.Since(begin) > patience*within {
			h.t.Fatalf("the guest has not gone down within %s", within)
		}
		time.Sleep(100 * time.Millisecond)
	}
	took := time.Since(begin)
	time.Sleep(time.Second) // QEMU ends by itself
	if err := h.CutPower(); err != nil {
		h.t.Logf("after it went down: %v", err)
	}
	if err := h.PowerOn(h.t.Context()); err != nil {
		h.t.Fatal(err)
	}
	return took
}

// bigFile gives the group shop something to ship for a while.
func (h *host) bigFile(mib int) {
	h.t.Helper()
	h.sh(fmt.Sprintf(`dd if=/dev/urandom of="/srv/data1/a b/big" bs=1M count=%d status=none && sync`, mib))
}

// segments are the objects of streams, as "number name".
const segments = `cd /srv/repo && find data -type f -printf '%f\n' | sort`

// resent counts segments that lie there more than once: age never encrypts
// twice alike, so that what was sent again has another name.
func resent(listing string) (all, twice int) {
	seen := map[string]bool{}
	for _, name := range strings.Fields(listing) {
		number, _, _ := strings.Cut(name, "-")
		all++
		if seen[number] {
			twice++
		}
		seen[number] = true
	}
	return all, twice
}

// keep writes what a test has measured where a person finds it.
func (h *host) keep(name, text string) {
	h.t.Logf("%s:\n%s", name, text)
	if dir := os.Getenv("SNAPD_KEEP"); dir != "" {
		if err := os.WriteFile(filepath.Join(dir, name+".txt"), []byte(text+"\n"), 0o644); err != nil {
			h.t.Error(err)
		}
	}
}
