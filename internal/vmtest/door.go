package vmtest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"time"

	"golang.org/x/crypto/ssh"
)

// door is the one SSH connection to a guest that everything goes through: with
// an emulated processor each new one costs seconds.
type door struct {
	client *ssh.Client
	closed chan struct{} // closed when the connection has ended
}

// Command is one shell line to run in the guest as root.
type Command struct {
	Line   string
	Stdin  io.Reader // nil: nothing
	Stdout io.Writer // nil: thrown away
	Stderr io.Writer // nil: thrown away
	// Terminal gives the command a terminal of this kind and size; nil for none.
	Terminal *Terminal
}

// Terminal is what a person sits at.
type Terminal struct {
	Kind          string // as in TERM
	Rows, Columns int
}

const (
	// A guest that is still booting takes the connection and says nothing.
	greetingLimit  = 3 * time.Second
	handshakeLimit = 40 * time.Second
)

// connect opens the door of a guest that runs or boots: it tries until ctx ends.
func connect(ctx context.Context, i image, m *machine) (*door, error) {
	config, err := clientConfig(i)
	if err != nil {
		return nil, err
	}
	for {
		d, err := dial(ctx, config, m.sshPort)
		if err == nil {
			return d, nil
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("connect to the guest: %w (last try: %w)", context.Cause(ctx), err)
		case <-m.process.done:
			return nil, fmt.Errorf("connect to the guest: QEMU ended: %v", m.process.err)
		case <-time.After(100 * time.Millisecond):
		}
	}
}

func clientConfig(i image) (*ssh.ClientConfig, error) {
	text, err := os.ReadFile(i.key())
	if err != nil {
		return nil, fmt.Errorf("read the guest's key: %w", err)
	}
	key, err := ssh.ParsePrivateKey(text)
	if err != nil {
		return nil, fmt.Errorf("parse %s: %w", i.key(), err)
	}
	text, err = os.ReadFile(i.hostKey())
	if err != nil {
		return nil, fmt.Errorf("read the guest's host key: %w", err)
	}
	hostKey, _, _, _, err := ssh.ParseAuthorizedKey(text)
	if err != nil {
		return nil, fmt.Errorf("parse %s: %w", i.hostKey(), err)
	}
	return &ssh.ClientConfig{
		Config: ssh.Config{
			// The cheapest that the guest offers.
			KeyExchanges: []string{ssh.KeyExchangeCurve25519},
			Ciphers:      []string{ssh.CipherChaCha20Poly1305, ssh.CipherAES128GCM},
		},
		User:              "root",
		Auth:              []ssh.AuthMethod{ssh.PublicKeys(key)},
		HostKeyCallback:   ssh.FixedHostKey(hostKey),
		HostKeyAlgorithms: []string{ssh.KeyAlgoED25519},
	}, nil
}

// greeted is a connection with little patience until the guest has said its
// first word, and more from then on.
type greeted struct {
	net.Conn
	heard bool
}

func (g *greeted) Read(p []byte) (int, error) {
	n, err := g.Conn.Read(p)
	if n > 0 && !g.heard {
		g.heard = true
		err = errors.Join(err, g.SetDeadline(time.Now().Add(handshakeLimit)))
	}
	return n, err
}

func dial(ctx context.Context, config *ssh.ClientConfig, port int) (*door, error) {
	address := net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
	raw, err := (&net.Dialer{Timeout: greetingLimit}).DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	if err := raw.SetDeadline(time.Now().Add(greetingLimit)); err != nil {
		_ = raw.Close()
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { _ = raw.Close() })
	conn, channels, requests, err := ssh.NewClientConn(&greeted{Conn: raw}, address, config)
	if !stop() && err == nil {
		err = context.Cause(ctx)
	}
	if err == nil {
		err = raw.SetDeadline(time.Time{})
	}
	if err != nil {
		_ = raw.Close()
		return nil, err
	}
	d := &door{client: ssh.NewClient(conn, channels, requests), closed: make(chan struct{})}
	go func() {
		defer close(d.closed)
		_ = d.client.Wait() // why it ended shows in what was under way
	}()
	return d, nil
}

// run runs one command and returns its exit status. The error is about the way
// there: a command that fails is a status, not an error. A command that a
// signal ended has status 128 and the signal's number, as in a shell.
func (d *door) run(ctx context.Context, c Command) (status int, err error) {
	session, err := d.client.NewSession()
	if err != nil {
		return -1, fmt.Errorf("open a session: %w", err)
	}
	defer func() { _ = session.Close() }()
	session.Stdin, session.Stdout, session.Stderr = c.Stdin, c.Stdout, c.Stderr
	if t := c.Terminal; t != nil {
		if err := session.RequestPty(t.Kind, t.Rows, t.Columns, nil); err != nil {
			return -1, fmt.Errorf("open a terminal: %w", err)
		}
	}
	if err := session.Start(c.Line); err != nil {
		return -1, fmt.Errorf("start a command: %w", err)
	}
	ended := make(chan error, 1)
	go func() { ended <- session.Wait() }()
	select {
	case err = <-ended:
		return exitStatus(err)
	case <-ctx.Done():
		_ = session.Signal(ssh.SIGKILL)
		_ = session.Close()
		return -1, context.Cause(ctx)
	}
}

func exitStatus(err error) (int, error) {
	var exit *ssh.ExitError
	switch {
	case err == nil:
		return 0, nil
	case errors.As(err, &exit) && exit.Signal() != "":
		signals := map[string]int{"HUP": 1, "INT": 2, "QUIT": 3, "ILL": 4, "ABRT": 6, "FPE": 8, "KILL": 9, "USR1": 10, "SEGV": 11, "USR2": 12, "PIPE": 13, "ALRM": 14, "TERM": 15}
		return 128 + signals[exit.Signal()], nil
	case errors.As(err, &exit):
		return exit.ExitStatus(), nil
	default:
		return -1, fmt.Errorf("the guest did not tell how the command ended: %w", err)
	}
}

func (d *door) close() {
	_ = d.client.Close()
	<-d.closed
}
