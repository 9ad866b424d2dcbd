//go:build outside && long

package packaging_test

import (
	"os/exec"
	"path/filepath"
	"testing"
)

// TestBesideSnaps: Debian and Ubuntu have an unrelated package snapd. Both are
// installed, in either order, both work, and neither misses anything when the
// other one goes.
func TestBesideSnaps(t *testing.T) {
	h := newHost(t)
	h.fetchSnaps()
	h.says(0, "dpkg -i /root/snaps/*.deb >/root/snaps.log 2>&1; s=$?; tail -n 5 /root/snaps.log; exit $s")
	h.both()
	h.keep("beside", h.says(0, "dpkg-query -W snapd snapd-agent; systemctl list-unit-files 'snap*' --no-pager; ls -l /usr/bin/snap*; ls -d /run/snap* /var/lib/snap* /etc/snap*"))
	h.says(0, "snapd run two", "frozen")
	h.verified()

	// Ours goes, and comes back where theirs is.
	h.says(0, "dpkg -r snapd-agent")
	h.says(0, snapsWork)
	h.says(0, "dpkg -i /root/snapd-agent.deb >/root/dpkg.log 2>&1; s=$?; cat /root/dpkg.log; exit $s")
	h.both()

	// Theirs goes, with everything that it takes for its own.
	h.says(0, "dpkg -P snapd >/root/purge.log 2>&1; s=$?; tail -n 5 /root/purge.log; exit $s")
	h.says(0, "! systemctl is-active snapd.service && systemctl is-active snapd-agent.socket && test -d /var/lib/snapd-agent/points && test -e /etc/snapd-agent/signing.key")
	h.says(0, "snapd run shop && snapd snapshot two", "crash", "frozen")
	h.says(0, "snapd --kit /root/kit verify")
}

// snapsWork: the program of the other package reaches its daemon, which its socket
// starts.
const snapsWork = `systemctl is-active snapd.socket && snap version && snap version | grep -qE '^snapd +[0-9]' && snap list`

// both work, and no file belongs to both.
func (h *host) both() {
	h.t.Helper()
	h.says(0, snapsWork)
	h.says(0, "dpkg -S /usr/bin/snapd /usr/lib/snapd/snapd /usr/lib/systemd/system/snapd.socket", "snapd-agent: /usr/bin/snapd", "snapd: /usr/lib/snapd/snapd", "snapd: /usr/lib/systemd/system/snapd.socket")
	// Not as dpkg has installed them: a guest goes without manual pages.
	const files = `files() { dpkg-deb -c $1 | awk '$1 !~ /^d/ { print $6 }' | sort; }; `
	h.says(0, files+"test $(files /root/snapd-agent.deb | wc -l) -gt 20 && test $(files /root/snaps/snapd_*.deb | wc -l) -gt 20 && test -z \"$(comm -12 <(files /root/snapd-agent.deb) <(files /root/snaps/snapd_*.deb))\"")
	h.says(0, "systemctl is-active snapd-agent.socket && snapd snapshot shop && snapd list", "crash")
}

// fetchSnaps gives the guest the package that Debian calls snapd, and what it
// needs.
func (h *host) fetchSnaps() {
	h.t.Helper()
	dir := h.t.TempDir()
	if err := h.CopyOut(h.t.Context(), "/var/lib/dpkg/status", dir); err != nil {
		h.t.Fatal(err)
	}
	debs := filepath.Join(dir, "debs")
	fetch := exec.CommandContext(h.t.Context(), "../scripts/guest-debs", filepath.Join(dir, "status"), debs, "snapd")
	if out, err := fetch.CombinedOutput(); err != nil {
		h.t.Fatalf("fetch Debian's snapd: %v\n%s", err, out)
	}
	found, err := filepath.Glob(filepath.Join(debs, "*.deb"))
	if err != nil {
		h.t.Fatal(err)
	}
	h.sh("mkdir -p /root/snaps")
	if err := h.CopyIn(h.t.Context(), "/root/snaps", found...); err != nil {
		h.t.Fatal(err)
	}
}
