package host

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"snapd/internal/advice"
)

func TestPeerOf(t *testing.T) {
	dir, err := os.MkdirTemp("", "peer") // a socket's path is short
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: filepath.Join(dir, "s")})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c, err := net.Dial("unix", filepath.Join(dir, "s"))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	server, err := l.AcceptUnix()
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	p, err := PeerOf(server)
	if err != nil || p.UID != os.Geteuid() || p.GID != os.Getegid() || p.PID != os.Getpid() {
		t.Errorf("%+v, %v", p, err)
	}
	groups, err := os.Getgroups()
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(groups)
	got := slices.Sorted(slices.Values(p.Groups))
	if !slices.Equal(got, groups) {
		t.Errorf("groups %v, want %v", got, groups)
	}
	if (Peer{GID: 0, Groups: []int{0}}).Member(0) {
		t.Error("the group of root counts as one whose members may call")
	}
	if !(Peer{GID: 5, Groups: []int{7}}).Member(7) || !(Peer{GID: 5}).Member(5) || (Peer{GID: 5, Groups: []int{7}}).Member(6) {
		t.Error("membership is wrong")
	}
}

func TestNothingUnparsedReachesAUnit(t *testing.T) {
	for _, bad := range []Timer{
		{Group: "", Calendar: "daily"},
		{Group: "Shop", Calendar: "daily"},
		{Group: "../shop", Calendar: "daily"},
		{Group: "a b", Calendar: "daily"},
		{Group: "a\nb", Calendar: "daily"},
		{Group: "%h", Calendar: "daily"},
		{Group: strings.Repeat("a", 64), Calendar: "daily"},
		{Group: "shop", Calendar: ""},
		{Group: "shop", Calendar: "daily\nUnit=evil.service"},
		{Group: "shop", Calendar: "daily\r"},
		{Group: "shop", Calendar: "%i"},
		{Group: "shop", Calendar: `daily"`},
		{Group: "shop", Calendar: `daily\`},
		{Group: "shop", Calendar: " daily"},
		{Group: "shop", Calendar: "täglich"},
		{Group: "shop", Calendar: strings.Repeat("1", 300)},
		{Group: "shop", Calendar: "daily", Source: "/etc/x\nExecStart=y"},
		{Group: "shop", Calendar: "daily", Source: "relative"},
	} {
		if text, err := bad.unit(); err == nil {
			t.Errorf("%q became\n%s", bad, text)
		}
	}
	for calendar, spread := range map[string]string{
		"hourly": "5min", "Mon..Fri 22:00": "5min", "*-*-* 03:30": "5min", "*-*-* *:00": "5min", "Sat *-*-1..7 18:00:00 Europe/Berlin": "5min",
		"minutely": "10s", "*:0/5": "10s", "*-*-* *:*:00": "10s", "*:*": "10s",
	} {
		text, err := Timer{Group: "a.b-c_1", Calendar: calendar, Source: "/etc/snapd-agent/snapd.toml"}.unit()
		if err != nil || !strings.Contains(text, "\nOnCalendar="+calendar+"\n") || !strings.Contains(text, "\nRandomizedDelaySec="+spread+"\n") || !strings.Contains(text, "\nPersistent=true\n") {
			t.Errorf("%s: %v\n%s", calendar, err, text)
		}
	}
	text, err := writable([]string{"/srv/a b", `/srv/"x"\%n`})
	want := "ReadWritePaths=\"-/srv/\\\"x\\\"\\\\%%n\"\nReadWritePaths=\"-/srv/a b\"\n"
	if err != nil || !strings.HasSuffix(text, want) {
		t.Errorf("%v: got\n%s\nwant\n%s", err, text, want)
	}
	for _, bad := range []string{"relative", "/srv/a\nExecStart=/evil", "/srv/\x7f", ""} {
		if text, err := writable([]string{bad}); err == nil || strings.Contains(text, "ReadWritePaths") {
			t.Errorf("%q became\n%s", bad, text)
		}
	}
}

func TestCredential(t *testing.T) {
	t.Setenv("CREDENTIALS_DIRECTORY", "")
	if got := Credential("snapd-agent.s3"); got != "" {
		t.Errorf("without any: %s", got)
	}
	dir := t.TempDir()
	t.Setenv("CREDENTIALS_DIRECTORY", dir)
	if err := os.WriteFile(filepath.Join(dir, "snapd-agent.s3"), nil, 0o400); err != nil {
		t.Fatal(err)
	}
	if got := Credential("snapd-agent.s3"); got != filepath.Join(dir, "snapd-agent.s3") {
		t.Errorf("got %s", got)
	}
	for _, name := range []string{"none", "../" + filepath.Base(dir) + "/snapd-agent.s3", "", "."} {
		if got := Credential(name); got != "" {
			t.Errorf("%q gave %s", name, got)
		}
	}
}

func TestListenerNeedsASocket(t *testing.T) {
	t.Setenv("LISTEN_FDS", "")
	t.Setenv("LISTEN_PID", "")
	if _, _, err := Listener(); !errors.Is(err, ErrNoSocket) {
		t.Errorf("got %v", err)
	}
	dir := t.TempDir()
	open := filepath.Join(dir, "open")
	if err := os.WriteFile(open, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if gid, err := socketGroup(open); err != nil || gid != os.Getegid() {
		t.Errorf("group %d, %v", gid, err)
	}
	if err := os.Chmod(open, 0o666); err != nil {
		t.Fatal(err)
	}
	if _, err := socketGroup(open); err == nil || !strings.Contains(advice.Of(err), "SocketMode=0660") {
		t.Errorf("a socket that every user may use: %v", err)
	}
}

func TestDelayWithoutLogind(t *testing.T) {
	t.Setenv("DBUS_SYSTEM_BUS_ADDRESS", "unix:path="+t.TempDir()+"/no-bus")
	ctx, done, err := Delay(t.Context(), "a test", errors.New("never"))
	if !errors.Is(err, ErrNoLogind) || ctx.Err() != nil {
		t.Errorf("%v, context %v", err, ctx.Err())
	}
	done()
	outer, cancel := context.WithCancel(t.Context())
	ctx, done, _ = Delay(outer, "a test", errors.New("never"))
	defer done()
	cancel()
	select {
	case <-ctx.Done():
	case <-time.After(5 * time.Second):
		t.Error("the caller's cancellation does not reach it")
	}
}

func TestFieldNames(t *testing.T) {
	for key, want := range map[string]string{"group": "SNAPD_GROUP", "window_us": "SNAPD_WINDOW_US", "a b.c": "SNAPD_A_B_C"} {
		if got := fieldName(key); got != want {
			t.Errorf("%s gave %s", key, got)
		}
	}
}
