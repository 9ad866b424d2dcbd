//go:build outside && long

package packaging_test

import (
	"strings"
	"testing"
	"time"
)

// denying answers every request as an S3 server answers a user without rights.
const denying = `cat >/root/denying.py <<'X'
import http.server
class Denying(http.server.BaseHTTPRequestHandler):
    def answer(self):
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        body = b'<?xml version="1.0"?><Error><Code>AccessDenied</Code><Message>Access Denied.</Message></Error>'
        self.send_response(403)
        self.send_header("Content-Type", "application/xml")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)
    do_GET = do_PUT = do_HEAD = do_POST = do_DELETE = answer
http.server.HTTPServer(("127.0.0.1", 9000), Denying).serve_forever()
X
systemd-run --quiet --unit denying python3 /root/denying.py`

// silent accepts connections and never answers.
const silent = `cat >/root/silent.py <<'X'
import socket
s = socket.create_server(("127.0.0.1", 9001), backlog=64)
kept = []
while True:
    kept.append(s.accept())
X
systemd-run --quiet --unit silent python3 /root/silent.py`

// TestFaults is what people see when something is wrong with their host.
func TestFaults(t *testing.T) {
	h := newHost(t)
	var seen strings.Builder
	see := func(what string, status int, line string, words ...string) {
		t.Helper()
		seen.WriteString("== " + what + "\n$ " + line + "\n" + h.says(status, line, words...) + "\n")
	}
	h.says(0, "snapd run shop", "crash")
	h.sh("systemctl is-active snapd-agent.service")

	h.sh("cp /etc/snapd-agent/snapd.toml /root/good.toml; echo 'freze = \"auto\"' >>/etc/snapd-agent/snapd.toml")
	see("a wrong configuration, at reload", 1, "systemctl reload snapd-agent.service; s=$?; journalctl -u snapd-agent -n 4 --no-pager -o cat; exit $s", `no such key; what to do: write "freeze", if that is meant`)
	see("a wrong configuration, in a running agent", 0, "snapd status", "stays in force", "no such key")
	see("systemctl status meanwhile", 0, "systemctl status snapd-agent.service --no-pager | head -16", "stays in force")
	see("timers, when systemd reads a wrong configuration", 0, "systemctl daemon-reload; journalctl --sync; journalctl -b -t snapd-agent-generator -n 4 --no-pager", "/etc/snapd-agent/snapd.toml:", `no such key; what to do: write "freeze", if that is meant`)
	h.sh("systemctl stop snapd-agent.service")
	see("a wrong configuration, at start", 2, "snapd status", "no such key")
	h.sh("cp /root/good.toml /etc/snapd-agent/snapd.toml")
	see("after it was corrected", 0, "snapd status", "shop")

	h.sh(denying)
	h.sh(`cat >>/etc/snapd-agent/snapd.toml <<'X'
[repository.s3]
url = "s3://bucket/host"
endpoint = "http://127.0.0.1:9000"
encryption = "none"
retry-for = "5s"
[group.away]
paths = ["/srv/data2/a b"]
repositories = ["s3"]
X`)
	see("no credential", 3, "snapd run away", "no access key was found here", "/etc/credstore")
	see("no credential: the journal's fields", 0, "journalctl -b -o json SNAPD_GROUP=away --output-fields=PRIORITY,SNAPD_GROUP,SNAPD_CALL,SNAPD_ERROR --no-pager | tail -n 1", `"SNAPD_ERROR":"`, "no access key was found here")
	see("no credential: doctor", 1, "snapd doctor", "the agent has no keys for repository s3")
	h.sh(`mkdir -p /etc/credstore.encrypted && printf '[default]\naws_access_key_id = a\naws_secret_access_key = b\n' | systemd-creds encrypt --with-key=host --name=snapd-agent.s3 - /etc/credstore.encrypted/snapd-agent.s3 && systemctl stop snapd-agent.service`)
	see("with an encrypted credential that has no rights", 1, "snapd ship away", "the keys are known but lack a right")
	h.sh("cp /root/good.toml /etc/snapd-agent/snapd.toml")
	h.patient()

	h.sh("systemctl stop docker.socket docker.service snapd-agent.service")
	see("no Docker", 0, "snapd snapshot shop", "crash")
	see("no Docker, a group of containers", 2, "snapd snapshot two", "without a container engine")
	h.sh("systemctl start docker.socket docker.service")

	h.sh("systemctl stop snapd-agent.service; systemctl stop dbus.socket dbus.service")
	see("no D-Bus", 0, "snapd snapshot shop && snapd snapshot shop", "crash")
	see("no D-Bus: said once", 0, "journalctl -b -u snapd-agent -o cat --no-pager | grep -c 'no logind answers' | grep -x 1", "1")
	h.sh("systemctl start dbus.socket dbus.service; systemctl restart systemd-logind")

	h.sh("systemctl stop snapd-agent.service; mount --bind /var /var && mount -o remount,bind,ro /var")
	see("a read-only /var", 1, "snapd snapshot shop", "read-only file system")
	see("a read-only /var: status", 0, "snapd status", "shop")
	see("a read-only /var: doctor", 1, "snapd doctor", "no restore point can be taken")
	h.sh("umount /var; systemctl stop snapd-agent.service")
	see("after all of that", 0, "snapd run shop", "crash")
	h.keep("faults", seen.String())
}

// patient: a server that does not answer for five times as long as the watchdog
// waits is no reason to be killed, and other calls are answered meanwhile.
func (h *host) patient() {
	h.t.Helper()
	h.sh(silent)
	h.sh(`printf 'AWS_ACCESS_KEY_ID=a\nAWS_SECRET_ACCESS_KEY=b\n' >/etc/default/snapd-agent
		cat >>/etc/snapd-agent/snapd.toml <<'X'
[repository.dead]
url = "s3://bucket/host"
endpoint = "http://127.0.0.1:9001"
encryption = "none"
[group.late]
paths = ["/srv/data2/a b"]
repositories = ["dead"]
X
		mkdir -p /run/systemd/system/snapd-agent.service.d && printf '[Service]\nWatchdogSec=6s\n' >/run/systemd/system/snapd-agent.service.d/90-watchdog.conf
		systemctl daemon-reload && systemctl stop snapd-agent.service`)
	h.sh("snapd run late >/root/late.log 2>&1 &")
	h.await(30*time.Second, "systemctl show -P StatusText snapd-agent.service | grep late")
	pid := h.sh("systemctl show -P MainPID snapd-agent.service")
	h.says(0, "sleep 30; systemctl show -P StatusText snapd-agent.service; pgrep -f '^snapd run late'", "late")
	h.says(0, "snapd snapshot shop", "crash")
	if now := h.sh("systemctl show -P MainPID snapd-agent.service"); now != pid {
		h.t.Errorf("process %s answers, and %s before: it was killed", now, pid)
	}
	h.sh("pkill -INT -f '^snapd run late'; rm /etc/default/snapd-agent /run/systemd/system/snapd-agent.service.d/90-watchdog.conf; cp /root/good.toml /etc/snapd-agent/snapd.toml; systemctl daemon-reload")
	h.await(30*time.Second, "! pgrep -f '^snapd run late'")
	h.run("cat /root/late.log; systemctl stop silent.service snapd-agent.service")
}
