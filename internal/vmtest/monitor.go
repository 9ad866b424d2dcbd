package vmtest

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
)

// monitor speaks QEMU's control protocol (QMP). Between a command and its
// reply QEMU may send events; they are told apart by the reply's id.
type monitor struct {
	conn net.Conn
	done chan struct{} // closed when the reader has ended

	mu      sync.Mutex
	next    int
	waiting map[string]chan reply
	events  []string // names, in the order in which they came
	err     error    // why the connection is gone
}

type reply struct {
	ID     string          `json:"id"`
	Event  string          `json:"event"`
	Return json.RawMessage `json:"return"`
	Error  *struct {
		Class string `json:"class"`
		Desc  string `json:"desc"`
	} `json:"error"`
}

// socketpair returns two ends of one connection: ours, and the one that is
// passed to QEMU as an open file. There is no path and no port, so no other program can connect.
func socketpair() (ours net.Conn, theirs *os.File, err error) {
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("make a socket pair: %w", err)
	}
	theirs = os.NewFile(uintptr(fds[1]), "qemu")
	file := os.NewFile(uintptr(fds[0]), "vmtest")
	defer func() { _ = file.Close() }()
	ours, err = net.FileConn(file)
	if err != nil {
		_ = theirs.Close()
		return nil, nil, fmt.Errorf("use a socket pair: %w", err)
	}
	return ours, theirs, nil
}

// openMonitor greets QEMU on conn, which the monitor then owns.
func openMonitor(ctx context.Context, conn net.Conn) (*monitor, error) {
	m := &monitor{conn: conn, done: make(chan struct{}), waiting: make(map[string]chan reply)}
	go m.read()
	if _, err := m.execute(ctx, "qmp_capabilities", nil); err != nil {
		m.close()
		return nil, err
	}
	return m, nil
}

func (m *monitor) read() {
	defer close(m.done)
	lines := bufio.NewReader(m.conn)
	for {
		line, err := lines.ReadBytes('\n')
		if err != nil {
			if errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET) {
				err = errors.New("QEMU has gone")
			}
			m.fail(err)
			return
		}
		var r reply
		if err := json.Unmarshal(line, &r); err != nil {
			m.fail(fmt.Errorf("parse QEMU's answer %q: %w", line, err))
			return
		}
		m.mu.Lock()
		if r.Event != "" {
			m.events = append(m.events, r.Event)
		} else if wait := m.waiting[r.ID]; wait != nil {
			delete(m.waiting, r.ID)
			wait <- r
		}
		m.mu.Unlock()
	}
}

func (m *monitor) fail(err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.err = err
	for id, wait := range m.waiting {
		delete(m.waiting, id)
		close(wait)
	}
}

// execute sends one command and returns QEMU's answer to it.
func (m *monitor) execute(ctx context.Context, command string, arguments map[string]any) (json.RawMessage, error) {
	m.mu.Lock()
	m.next++
	id := strconv.Itoa(m.next)
	wait := make(chan reply, 1)
	err := m.err
	if err == nil {
		m.waiting[id] = wait
	}
	m.mu.Unlock()
	if err != nil {
		return nil, fmt.Errorf("QEMU %s: %w", command, err)
	}
	message := map[string]any{"execute": command, "id": id}
	if arguments != nil {
		message["arguments"] = arguments
	}
	line, err := json.Marshal(message)
	if err != nil {
		return nil, fmt.Errorf("encode QEMU %s: %w", command, err)
	}
	if _, err := m.conn.Write(append(line, '\n')); err != nil {
		return nil, fmt.Errorf("QEMU %s: %w", command, err)
	}
	select {
	case <-ctx.Done():
		return nil, fmt.Errorf("QEMU %s: %w", command, context.Cause(ctx))
	case r, open := <-wait:
		if !open {
			return nil, fmt.Errorf("QEMU %s: the connection was lost", command)
		}
		if r.Error != nil {
			return nil, fmt.Errorf("QEMU %s: %s: %s", command, r.Error.Class, r.Error.Desc)
		}
		return r.Return, nil
	}
}

// sshPort asks on which port of the loopback QEMU forwards to the guest's SSH.
func (m *monitor) sshPort(ctx context.Context) (int, error) {
	answer, err := m.execute(ctx, "human-monitor-command", map[string]any{"command-line": "info usernet"})
	if err != nil {
		return 0, err
	}
	var table string
	if err := json.Unmarshal(answer, &table); err != nil {
		return 0, fmt.Errorf("parse QEMU's list of forwarded ports: %w", err)
	}
	for line := range strings.Lines(table) {
		// TCP[HOST_FORWARD]  12   127.0.0.1 40123  10.0.2.15  22  0  0
		fields := strings.Fields(line)
		if len(fields) >= 6 && strings.HasPrefix(fields[0], "TCP[HOST_FORWARD]") && fields[5] == "22" {
			return strconv.Atoi(fields[3])
		}
	}
	return 0, fmt.Errorf("QEMU forwards no port to the guest's SSH: %q", table)
}

// happened tells the events so far, for the report of a failure.
func (m *monitor) happened() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return append([]string(nil), m.events...)
}

func (m *monitor) close() {
	_ = m.conn.Close()
	<-m.done
}
