package lvm

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"snapd/internal/durable"
	"snapd/internal/fs/lvm/lvmstream"
	"snapd/internal/proc"
	"snapd/internal/run"

	"golang.org/x/sys/unix"
)

// Whether a snapshot can be taken of a filesystem that is frozen depends on
// the kernel: where freezes nest (about 6.8 and later) the freeze that
// device-mapper makes for a snapshot comes on top of ours, elsewhere it fails
// with EBUSY. The probe finds out on a small filesystem of its own: a file in
// the state directory, a device-mapper device on it that is suspended as LVM
// does it, a mount that no namespace has.
const (
	probePrefix = "snapd-probe-"
	probeSize   = 8 << 20 // bytes
	probeLimit  = time.Minute
)

// probeMemory is what the probe found out.
type probeMemory struct {
	sync.Mutex
	known   bool
	refuses string // why not, "" when snapshots of frozen filesystems work
}

// probeAnswer keeps it until the next boot.
type probeAnswer struct {
	Boot    string `json:"boot"`
	Refuses string `json:"refuses"`
}

// refusesFrozen says why this kernel takes no snapshot of a frozen filesystem,
// "" when it does. It is found out once per boot.
func (d *Driver) refusesFrozen(ctx context.Context) (string, error) {
	d.probed.Lock()
	defer d.probed.Unlock()
	if d.probed.known {
		return d.probed.refuses, nil
	}
	dir, err := d.stateDir()
	if err != nil {
		return "", err
	}
	file := filepath.Join(dir, "probe.json")
	var r probeAnswer
	if text, err := os.ReadFile(file); err == nil && json.Unmarshal(text, &r) == nil && r.Boot == proc.BootID() {
		d.probed.known, d.probed.refuses = true, r.Refuses
		return r.Refuses, nil
	}
	ctx, cancel := context.WithTimeoutCause(ctx, probeLimit, errors.New("the probe took too long"))
	defer cancel()
	r = probeAnswer{Boot: proc.BootID()}
	switch err = d.probe(ctx, dir); {
	case ctx.Err() != nil:
		return "", fmt.Errorf("find out whether frozen filesystems can be snapshotted: %w", errors.Join(context.Cause(ctx), err))
	case errors.Is(err, errFrozenRefused):
		r.Refuses = "this kernel takes no snapshot of a frozen filesystem; those from about 6.8 on do"
	case err != nil: // of this moment, not of the kernel
		return "whether this kernel takes snapshots of frozen filesystems cannot be found out: " + err.Error(), nil
	}
	d.probed.known, d.probed.refuses = true, r.Refuses
	text, err := json.Marshal(r)
	if err != nil {
		return "", err
	}
	return r.Refuses, durable.Write(file, text, 0o600)
}

// errFrozenRefused is the kernel's answer on those that do not nest freezes.
var errFrozenRefused = errors.New("a frozen filesystem's device is not suspended")

// probe returns nil if a frozen filesystem's device can be suspended, and
// errFrozenRefused if not.
func (d *Driver) probe(ctx context.Context, dir string) (err error) {
	var undo []func() error
	defer func() {
		for _, step := range slices.Backward(undo) {
			err = errors.Join(err, step())
		}
	}()
	loop, err := probeLoop(ctx, dir)
	if err != nil {
		return err
	}
	undo = append(undo, loop.Close) // and with the last user the device goes
	name := probePrefix + proc.Mark()
	whole := context.WithoutCancel(ctx)
	table := fmt.Sprintf("0 %d linear %s 0", probeSize/lvmstream.Sector, loop.Name())
	if err := dmsetup(ctx, "create", name, "--table", table); err != nil {
		return err
	}
	undo = append(undo, func() error { return dmsetup(whole, "remove", "--retry", "--noudevsync", name) })
	root, err := mountNowhere("ext4", "/dev/mapper/"+name)
	if err != nil {
		return err
	}
	undo = append(undo, root.Close)
	if err := unix.IoctlSetInt(int(root.Fd()), fiFreeze, 0); err != nil {
		return fmt.Errorf("freeze: %w", err)
	}
	undo = append(undo, func() error { return unix.IoctlSetInt(int(root.Fd()), fiThaw, 0) })
	if err := dmsetup(ctx, "suspend", "--noudevsync", name); err != nil {
		return fmt.Errorf("%w: %w", errFrozenRefused, err)
	}
	return dmsetup(whole, "resume", "--noudevsync", name)
}

// Requests of ioctl(2), the same on every architecture that LVM runs on but
// for some old ones.
const (
	fiFreeze = 0xC0045877
	fiThaw   = 0xC0045878
)

func dmsetup(ctx context.Context, argv ...string) error {
	_, err := run.Program{Argv: append([]string{"dmsetup"}, argv...), Whole: true}.Output(ctx)
	return err
}

// probeLoop makes a filesystem in a file without a name, and a loop device on
// it that goes with its last user.
func probeLoop(ctx context.Context, dir string) (_ *os.File, err error) {
	file, err := os.CreateTemp(dir, probePrefix)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, file.Close(), os.Remove(file.Name())) }()
	if err := file.Truncate(probeSize); err != nil {
		return nil, err
	}
	if _, err := run.Output(ctx, "mkfs.ext4", "-q", "-F", file.Name()); err != nil {
		return nil, err
	}
	control, err := os.OpenFile("/dev/loop-control", os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, control.Close()) }()
	const tries = 10 // another process may take the free one
	for range tries {
		number, err := unix.IoctlRetInt(int(control.Fd()), unix.LOOP_CTL_GET_FREE)
		if err != nil {
			return nil, os.NewSyscallError("find a free loop device", err)
		}
		loop, err := os.OpenFile(fmt.Sprintf("/dev/loop%d", number), os.O_RDWR, 0)
		if err != nil {
			return nil, err
		}
		config := unix.LoopConfig{Fd: uint32(file.Fd())}
		config.Info.Flags = unix.LO_FLAGS_AUTOCLEAR
		err = unix.IoctlLoopConfigure(int(loop.Fd()), &config)
		if err == nil {
			return loop, nil
		}
		err = errors.Join(err, loop.Close())
		if !errors.Is(err, unix.EBUSY) {
			return nil, err
		}
	}
	return nil, errors.New("no free loop device was to be had")
}

// mountNowhere mounts a filesystem so that no namespace shows it; it goes with
// the descriptor.
func mountNowhere(kind, source string, flags ...string) (*os.File, error) {
	fsfd, err := unix.Fsopen(kind, unix.FSOPEN_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("fsopen", err)
	}
	defer func() { _ = unix.Close(fsfd) }()
	if err := unix.FsconfigSetString(fsfd, "source", source); err != nil {
		return nil, os.NewSyscallError("fsconfig", err)
	}
	for _, flag := range flags {
		if err := unix.FsconfigSetFlag(fsfd, flag); err != nil {
			return nil, os.NewSyscallError("fsconfig", err)
		}
	}
	if err := unix.FsconfigCreate(fsfd); err != nil {
		return nil, fmt.Errorf("mount %s: %w", source, err)
	}
	mfd, err := unix.Fsmount(fsfd, unix.FSMOUNT_CLOEXEC, unix.MOUNT_ATTR_NOSUID|unix.MOUNT_ATTR_NODEV|unix.MOUNT_ATTR_NOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("fsmount", err)
	}
	defer func() { _ = unix.Close(mfd) }() // the directory keeps the mount
	fd, err := unix.Openat(mfd, ".", unix.O_RDONLY|unix.O_CLOEXEC|unix.O_DIRECTORY, 0)
	if err != nil {
		return nil, os.NewSyscallError("openat", err)
	}
	return os.NewFile(uintptr(fd), "the filesystem on "+source), nil
}

// sweepProbes removes what a killed probe left: its device, perhaps suspended,
// with a filesystem that may be frozen.
func (d *Driver) sweepProbes(ctx context.Context) error {
	names, err := filepath.Glob("/dev/mapper/" + probePrefix + "*")
	if err != nil {
		return err
	}
	var failed error
	for _, path := range names {
		name := filepath.Base(path)
		if proc.Lives(strings.TrimPrefix(name, probePrefix)) {
			continue
		}
		err := dmsetup(ctx, "resume", "--noudevsync", name)
		// A frozen filesystem stays in the kernel without a mount, and can
		// only be thawed through one.
		if root, mountErr := mountNowhere("ext4", path); mountErr == nil {
			_ = unix.IoctlSetInt(int(root.Fd()), fiThaw, 0) // EINVAL: it was not frozen
			err = errors.Join(err, root.Close())
		}
		failed = errors.Join(failed, err, dmsetup(ctx, "remove", "--retry", "--noudevsync", name))
	}
	left, err := filepath.Glob(filepath.Join(d.state, probePrefix+"*"))
	for _, file := range left {
		if st, statErr := os.Stat(file); statErr == nil && time.Since(st.ModTime()) > probeLimit {
			err = errors.Join(err, os.Remove(file))
		}
	}
	return errors.Join(failed, err)
}
