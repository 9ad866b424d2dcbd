package vmtest

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"slices"
	"strings"
	"testing"
	"time"
)

// fakeQEMU answers each command with what answer returns for it; "" ends it.
func fakeQEMU(conn net.Conn, answer func(command, id string) string) {
	defer func() { _ = conn.Close() }()
	_, _ = fmt.Fprintln(conn, `{"QMP": {"version": {"qemu": {"major": 10}}, "capabilities": []}}`)
	lines := bufio.NewScanner(conn)
	for lines.Scan() {
		var command struct{ Execute, ID string }
		if json.Unmarshal(lines.Bytes(), &command) != nil {
			return
		}
		text := answer(command.Execute, command.ID)
		if text == "" {
			return
		}
		_, _ = fmt.Fprintln(conn, text)
	}
}

func TestMonitorTellsEventsFromReplies(t *testing.T) {
	ours, theirs := net.Pipe()
	go fakeQEMU(theirs, func(command, id string) string {
		switch command {
		case "human-monitor-command":
			return fmt.Sprintf(`{"event": "RESUME"}
{"return": "Hub -1 (host):\r\n  Protocol[State]    FD  Source Address  Port   Dest. Address  Port RecvQ SendQ\r\n  TCP[HOST_FORWARD]  12       127.0.0.1 44311       10.0.2.15    22     0     0\r\n", "id": %q}`, id)
		case "refused":
			return fmt.Sprintf(`{"error": {"class": "GenericError", "desc": "not now"}, "id": %q}`, id)
		case "gone":
			return ""
		}
		return fmt.Sprintf(`{"event": "STOP"}
{"return": {}, "id": %q}`, id)
	})
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	m, err := openMonitor(ctx, ours)
	if err != nil {
		t.Fatal(err)
	}
	defer m.close()
	if port, err := m.sshPort(ctx); err != nil || port != 44311 {
		t.Errorf("port %d, %v", port, err)
	}
	if _, err := m.execute(ctx, "refused", nil); err == nil || !strings.Contains(err.Error(), "not now") {
		t.Errorf("refused: %v", err)
	}
	if got := m.happened(); !slices.Equal(got, []string{"STOP", "RESUME"}) {
		t.Errorf("events: %v", got)
	}
	for range 2 { // while it goes, and after it has gone
		if _, err := m.execute(ctx, "gone", nil); err == nil || ctx.Err() != nil {
			t.Errorf("gone: %v", err)
		}
	}
}

func TestNetworkPassesFramesToTheOthers(t *testing.T) {
	var network Network
	var guests []net.Conn
	for range 3 {
		file, err := network.plug()
		if err != nil {
			t.Fatal(err)
		}
		conn, err := net.FileConn(file)
		_ = file.Close()
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = conn.Close() }()
		guests = append(guests, conn)
	}
	const frame = "\x00\x00\x00\x05hello"
	if _, err := guests[0].Write([]byte(frame)); err != nil {
		t.Fatal(err)
	}
	for _, guest := range guests[1:] {
		got := make([]byte, len(frame))
		if err := guest.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
			t.Fatal(err)
		}
		if _, err := guest.Read(got); err != nil || string(got) != frame {
			t.Errorf("got %q, %v", got, err)
		}
	}
}

func TestConsoleIsReadable(t *testing.T) {
	said := "\x1b[M\x1b[K[\x1b[0;32m  OK  \x1b[0m] Started \x1b[0;1;39mssh\x1b[0m.\r\n" +
		"[*     ] Job docker running (1s)\r\n\x1bM\r\x1b[K[ *    ] Job docker running (2s)\r\n\x1bM\r\x1b[K[  OK  ] Started docker.\r\n"
	if got, want := clean([]byte(said)), "[  OK  ] Started ssh.\n[  OK  ] Started docker.\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}
