package vmtest

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"
)

// resumeLimit is how long a saved guest may take to answer.
const resumeLimit = 90 * time.Second

// Spec says what a guest is to be. The zero value is a guest alone.
type Spec struct {
	// Name is its host name and makes it another machine (machine id) than its
	// copies. Empty: "guest", as it was saved.
	Name string
	// Network is shared with other guests; nil for none.
	Network *Network
}

// Guest is one machine, from Boot to Close. Its methods are not for use by
// several goroutines at once, except Run, Stream and copies: a power cut may well
// come while they go on, and ends them.
type Guest struct {
	spec    Spec
	cache   cache
	image   image
	state   state
	accel   accelerator
	address netip.Addr

	dir     string // disk and console
	release func() // gives dir up
	machine *machine
	door    atomic.Pointer[door] // nil without power
}

// Boot gives a running guest, as it was when its system had come up. If this
// host has no image yet, or a broken one, it is built first, which takes
// minutes and asks for root; ctx must allow for that. The caller closes it.
func Boot(ctx context.Context, spec Spec) (*Guest, error) {
	c, err := openCache()
	if err != nil {
		return nil, err
	}
	g := &Guest{spec: spec, cache: c}
	if err := g.find(ctx); err != nil {
		return nil, err
	}
	if spec.Network != nil {
		if g.address, err = spec.Network.address(); err != nil {
			return nil, err
		}
	}
	if g.dir, g.release, err = c.runDir(); err != nil {
		return nil, err
	}
	err = g.Reset(ctx)
	if err != nil && ctx.Err() == nil && c.discardDamaged(g.image.dir, g.state.dir) {
		if err = g.find(ctx); err == nil {
			err = g.Reset(ctx)
		}
	}
	if err != nil {
		return nil, errors.Join(err, g.Close())
	}
	return g, nil
}

// Prepare makes everything that Boot needs and this host does not have yet.
func Prepare(ctx context.Context) error {
	c, err := openCache()
	if err != nil {
		return err
	}
	return (&Guest{cache: c}).find(ctx)
}

// find looks up, or makes, the image and its saved state.
func (g *Guest) find(ctx context.Context) (err error) {
	if g.image, err = g.cache.ensureImage(ctx); err != nil {
		return err
	}
	qemu, err := qemuVersion(ctx)
	if err != nil {
		return err
	}
	if g.accel, err = g.cache.ensureAccelerator(ctx, g.image, qemu); err != nil {
		return err
	}
	g.state, err = g.cache.ensureState(ctx, g.image, qemu, g.accel)
	return err
}

func (g *Guest) console() console { return console{filepath.Join(g.dir, "console")} }
func (g *Guest) disk() string     { return filepath.Join(g.dir, "disk.qcow2") }

// Reset throws everything away that has happened in the guest and gives it
// back as Boot did, with the clock set; in seconds, and whatever state it is in.
func (g *Guest) Reset(ctx context.Context) error {
	if err := g.CutPower(); err != nil {
		return err
	}
	if err := os.RemoveAll(g.disk()); err != nil {
		return fmt.Errorf("throw the guest's disk away: %w", err)
	}
	if err := overlay(ctx, g.state.disk(), g.disk()); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, resumeLimit, fmt.Errorf("the saved guest did not answer within %s", resumeLimit))
	defer cancel()
	m, err := start(ctx, launch{
		image: g.image, accel: g.accel, disk: g.disk(), memory: g.state.memory(), incoming: true, console: g.console().path,
	}, g.spec.Network)
	if err != nil {
		return err
	}
	g.machine = m
	if err := restore(ctx, m.monitor, g.state); err != nil {
		return g.explain(err)
	}
	return g.explain(g.open(ctx, true))
}

// PowerOn starts a guest whose power was cut, from its disk as it is, and waits
// until its system has come up.
func (g *Guest) PowerOn(ctx context.Context) error {
	if g.machine != nil {
		return errors.New("power on: the guest's power was not cut")
	}
	ctx, cancel := context.WithTimeoutCause(ctx, bootLimit, fmt.Errorf("the guest did not boot within %s", bootLimit))
	defer cancel()
	m, err := start(ctx, launch{image: g.image, accel: g.accel, disk: g.disk(), console: g.console().path}, g.spec.Network)
	if err != nil {
		return err
	}
	g.machine = m
	if err := g.open(ctx, false); err != nil {
		return g.explain(err)
	}
	return g.explain(g.awaitSystem(ctx))
}

// CutPower ends the guest between two instructions. What it had written and
// not flushed may be lost, as with a disk's own cache. PowerOn starts it again.
// Cutting twice is no error.
func (g *Guest) CutPower() error {
	if g.machine == nil {
		return nil
	}
	err := g.machine.kill()
	g.machine = nil
	g.closeDoor()
	return err
}

// Reboot has the guest's own system shut down and boot again, and waits until
// it has come up. A shutdown that the system refuses is an error.
func (g *Guest) Reboot(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, bootLimit, fmt.Errorf("the guest did not reboot within %s", bootLimit))
	defer cancel()
	d := g.door.Load()
	if d == nil {
		return errNoPower
	}
	result, err := g.Run(ctx, "systemctl reboot")
	if err == nil && result.Status != 0 {
		return fmt.Errorf("reboot: %s", strings.TrimSpace(result.Stderr))
	}
	// Without an error the connection may still last for some steps of the
	// shutdown; with one it may be that very shutdown that broke it.
	select {
	case <-d.closed:
	case <-g.machine.process.done:
		return g.explain(errors.New("reboot: QEMU ended"))
	case <-ctx.Done():
		return g.explain(errors.Join(fmt.Errorf("reboot: %w", context.Cause(ctx)), err))
	}
	if err := g.open(ctx, false); err != nil {
		return g.explain(err)
	}
	return g.explain(g.awaitSystem(ctx))
}

// Console returns everything that the guest has said on its console, over all
// resets and reboots.
func (g *Guest) Console() string { return g.console().since(0) }

// Address is the guest's on its Network; the zero value without one.
func (g *Guest) Address() netip.Addr { return g.address }

// Accelerated tells whether the guest runs on this machine's own processor, or
// is translated, about ten times slower.
func (g *Guest) Accelerated() bool { return g.accel == kvm }

// Close ends the guest and removes what it left here. It may be called again.
func (g *Guest) Close() error {
	err := g.CutPower()
	if g.release != nil {
		g.release()
		g.release = nil
	}
	return err
}

// open connects to the guest and tells it what a copy cannot know: the time, and
// its own name and address.
func (g *Guest) open(ctx context.Context, copied bool) error {
	g.closeDoor()
	d, err := connect(ctx, g.image, g.machine)
	if err != nil {
		return err
	}
	g.door.Store(d)
	if err := setClock(ctx, d); err != nil {
		return err
	}
	var script strings.Builder
	if g.address.IsValid() {
		last := g.address.As4()[3]
		fmt.Fprintf(&script, "ip link set eth1 down && ip link set eth1 address 52:54:00:00:01:%02x && ip link set eth1 up && ip addr replace %s/24 dev eth1 && ", last, g.address)
	}
	if copied && g.spec.Name != "" {
		id := digest("machine-id", g.spec.Name, g.dir) + "000000000000"
		fmt.Fprintf(&script, "echo %s >/etc/hostname && hostname %[1]s && echo '127.0.1.1 %[1]s' >>/etc/hosts && echo %s >/etc/machine-id && ", g.spec.Name, id)
	}
	if script.Len() == 0 {
		return nil
	}
	return mustRun(ctx, d, script.String()+"true")
}

func (g *Guest) closeDoor() {
	if d := g.door.Swap(nil); d != nil {
		d.close()
	}
}

func (g *Guest) awaitSystem(ctx context.Context) error {
	result, err := g.Run(ctx, "systemctl is-system-running --wait || { systemctl --failed --no-legend --plain; exit 1; }")
	if err != nil {
		return err
	}
	if result.Status != 0 {
		return fmt.Errorf("the guest's system did not come up: %s", strings.TrimSpace(result.Stdout))
	}
	return nil
}

// explain adds the guest's and QEMU's last words to an error.
func (g *Guest) explain(err error) error {
	if err == nil || g.machine == nil {
		return err
	}
	return explain(err, g.console(), g.machine.messages.String(), g.machine.monitor.happened())
}

// setClock gives the guest this host's time: the clock of a saved guest stopped
// when it was saved.
func setClock(ctx context.Context, d *door) error {
	now := time.Now()
	return mustRun(ctx, d, fmt.Sprintf("date -u -s @%d.%09d >/dev/null", now.Unix(), now.Nanosecond()))
}

func mustRun(ctx context.Context, d *door, line string) error {
	var said collector
	status, err := d.run(ctx, Command{Line: line, Stdout: &said, Stderr: &said})
	if err == nil && status != 0 {
		err = fmt.Errorf("exit status %d: %s", status, strings.TrimSpace(said.String()))
	}
	if err != nil {
		return fmt.Errorf("in the guest: %s: %w", line, err)
	}
	return nil
}
