//go:build guest

package host_test

import (
	"bufio"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"snapd/internal/host"
	"snapd/internal/vmtest"

	"github.com/godbus/dbus/v5"
)

const (
	logindName = "org.freedesktop.login1"
	logindPath = "/org/freedesktop/login1"
	announced  = logindName + ".Manager.PrepareForShutdown"
)

// logind grants a lock: a pipe whose other end tells when it is released.
type logind struct {
	given chan [2]*os.File
}

func (l *logind) Inhibit(_, _, _, _ string) (dbus.UnixFD, *dbus.Error) {
	r, w, err := os.Pipe()
	if err != nil {
		return 0, dbus.MakeFailedError(err)
	}
	fd := dbus.UnixFD(w.Fd())
	l.given <- [2]*os.File{r, w}
	return fd, nil
}

// ownBus is a bus on which the test is logind, since the real one announces a
// shutdown only to carry it out.
func ownBus(t *testing.T) {
	t.Helper()
	address := "unix:path=" + filepath.Join(t.TempDir(), "bus")
	daemon := exec.Command("dbus-daemon", "--session", "--nofork", "--print-address", "--address="+address)
	out, err := daemon.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := daemon.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = daemon.Process.Kill()
		_ = daemon.Wait()
	})
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil || !strings.HasPrefix(line, "unix:") {
		t.Fatalf("the bus says %q, %v", line, err)
	}
	t.Setenv("DBUS_SYSTEM_BUS_ADDRESS", address)
}

func onBus(t *testing.T) *dbus.Conn {
	t.Helper()
	c, err := dbus.ConnectSystemBus()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func names(t *testing.T, c *dbus.Conn) (all []string) {
	t.Helper()
	if err := c.BusObject().Call("org.freedesktop.DBus.ListNames", 0).Store(&all); err != nil {
		t.Fatal(err)
	}
	return all
}

// TestDelayEndsForLogindOnly: a ship makes way for the shutdown that logind
// announces, within a second, and not for a program that only sends its signal.
func TestDelayEndsForLogindOnly(t *testing.T) {
	vmtest.Inside(t)
	ownBus(t)
	real, eve := onBus(t), onBus(t)
	l := &logind{given: make(chan [2]*os.File, 1)}
	if err := real.Export(l, logindPath, logindName+".Manager"); err != nil {
		t.Fatal(err)
	}
	if _, err := real.RequestName(logindName, dbus.NameFlagDoNotQueue); err != nil {
		t.Fatal(err)
	}
	before := names(t, eve)
	down := errors.New("it goes down")
	ctx, done, err := host.Delay(t.Context(), "a test", down)
	if err != nil {
		t.Fatal(err)
	}
	defer done()
	lock := <-l.given
	defer lock[0].Close()
	lock[1].Close()

	// As a broadcast, and to each waiting connection alone.
	if err := eve.Emit(logindPath, announced, true); err != nil {
		t.Fatal(err)
	}
	told := 0
	for _, name := range names(t, eve) {
		if !strings.HasPrefix(name, ":") || slices.Contains(before, name) {
			continue
		}
		told++
		eve.Send(&dbus.Message{
			Type: dbus.TypeSignal,
			Headers: map[dbus.HeaderField]dbus.Variant{
				dbus.FieldPath:        dbus.MakeVariant(dbus.ObjectPath(logindPath)),
				dbus.FieldInterface:   dbus.MakeVariant(logindName + ".Manager"),
				dbus.FieldMember:      dbus.MakeVariant("PrepareForShutdown"),
				dbus.FieldDestination: dbus.MakeVariant(name),
				dbus.FieldSignature:   dbus.MakeVariant(dbus.SignatureOf(true)),
			},
			Body: []any{true},
		}, nil)
	}
	if told == 0 {
		t.Fatalf("no connection waits on the bus: %v", names(t, eve))
	}
	select {
	case <-ctx.Done():
		t.Fatalf("a stranger ended it: %v", ctx.Err())
	case <-time.After(3 * time.Second):
	}

	begin := time.Now()
	if err := real.Emit(logindPath, announced, true); err != nil {
		t.Fatal(err)
	}
	if _, err := lock[0].Read(make([]byte, 1)); err == nil {
		t.Error("something was written into the lock")
	}
	took := time.Since(begin)
	t.Logf("released after %v, although done was not called", took)
	if ctx.Err() == nil || took < 500*time.Millisecond || took > 3*time.Second {
		t.Errorf("released after %v, context %v", took, ctx.Err())
	}
}
