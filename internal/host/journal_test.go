package host

import (
	"log/slog"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// What others wrote reaches neither the journal nor systemctl status as control
// characters, and sets no field of systemd's.
func TestTextOfOthersIsEscapedForSystemd(t *testing.T) {
	const nasty = "name\x1b]0;x\a\u202e\u009b\nREADY=1"
	r := slog.NewRecord(time.Time{}, slog.LevelWarn, nasty, 0)
	r.Add("group", nasty)
	message, fields := (&journalHandler{}).entry(r)
	for _, text := range []string{message, fields["SNAPD_GROUP"]} {
		if want := `name\u001b]0;x\u0007\u202e\u009b` + "\nREADY=1"; text != want {
			t.Errorf("got %q, want %q", text, want)
		}
	}
	socket := filepath.Join(t.TempDir(), "s")
	c, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: socket, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	t.Setenv("NOTIFY_SOCKET", socket)
	Status(nasty)
	buf := make([]byte, 1000)
	n, err := c.Read(buf)
	if got := string(buf[:n]); err != nil || !strings.HasPrefix(got, `STATUS=name\u001b]0;x\u0007\u202e\u009b; READY=1`) || strings.Contains(got, "\n") {
		t.Errorf("systemd gets %q, %v", got, err)
	}
}
