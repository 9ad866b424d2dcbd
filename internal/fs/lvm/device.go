package lvm

import (
	"context"
	"errors"
	"fmt"
	"os"
	"unsafe"

	"snapd/internal/fs"
	"snapd/internal/proc"

	"golang.org/x/sys/unix"
)

// activated is a volume of ours that was activated for as long as it is open.
type activated struct {
	*os.File
	driver     *Driver
	volume     volume
	deactivate func() error // also when the work was cancelled
}

// activated is what open returns for an opened device.
func (d *Driver) activated(ctx context.Context, f *os.File, v volume) *activated {
	ctx = context.WithoutCancel(ctx)
	return &activated{File: f, driver: d, volume: v, deactivate: func() error {
		return d.change(ctx, "lvchange", "-q", "-a", "n", v.full())
	}}
}

// open activates a volume of ours if it is not active, and opens it past the
// page cache, which belongs to the applications.
func (d *Driver) open(ctx context.Context, v volume, flags int) (*activated, error) {
	const tries = 5 // another process may be deactivating it at the same time
	if err := d.beQuiet(ctx); err != nil {
		return nil, err
	}
	d.activate.Lock()
	defer d.activate.Unlock()
	f, failed := openDevice(v, flags)
	if failed == nil {
		return d.activated(ctx, f, v), nil
	}
	for range tries {
		if err := d.change(ctx, "lvchange", "-q", "-a", "y", "-K", v.full()); err != nil {
			return nil, fmt.Errorf("activate %s: %w", v.full(), err)
		}
		f, err := openDevice(v, flags)
		if err == nil {
			return d.activated(ctx, f, v), nil
		}
		failed = err
		if !errors.Is(err, os.ErrNotExist) {
			break
		}
	}
	return nil, failed
}

func openDevice(v volume, flags int) (*os.File, error) {
	path := "/dev/mapper/" + dmName(v.vg, v.name, "")
	f, err := os.OpenFile(path, flags|unix.O_DIRECT|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return nil, errors.Join(os.NewSyscallError("fstat", err), f.Close())
	}
	// The name could have been given to another volume meanwhile.
	lv, err := volumeBelow(proc.DeviceOf(st.Rdev))
	if err == nil && lv != v.uuid {
		err = fmt.Errorf("%s is now the volume %s and was %s: %w", path, lv, v.uuid, fs.ErrNotFound)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// shut closes the volume and leaves it active. It may be called twice.
func (a *activated) shut() error {
	if a == nil || a.File == nil {
		return nil
	}
	err := a.File.Close()
	a.File = nil
	return err
}

// Close closes the volume and deactivates it, unless another process has it
// open. It may be called twice.
func (a *activated) Close() error {
	if a == nil || a.File == nil {
		return nil
	}
	a.driver.activate.Lock()
	defer a.driver.activate.Unlock()
	err := a.shut()
	if !a.volume.thin() && a.volume.classic() {
		return err // a classic snapshot is active as long as its origin is
	}
	off := a.deactivate()
	if errors.Is(off, fs.ErrBusy) || errors.Is(off, fs.ErrNotFound) {
		off = nil
	}
	return errors.Join(err, off)
}

// pages is memory as direct input and output wants it, to be given back.
func pages(size int) ([]byte, error) {
	b, err := unix.Mmap(-1, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		return nil, fmt.Errorf("get memory: %w", os.NewSyscallError("mmap", err))
	}
	return b, nil
}

// giveBack may be given nil.
func giveBack(b []byte) error {
	if b == nil {
		return nil
	}
	return os.NewSyscallError("munmap", unix.Munmap(b))
}

// rangeIoctl calls BLKDISCARD or BLKZEROOUT.
func rangeIoctl(f *os.File, request uint, offset, length int64) error {
	arg := [2]uint64{uint64(offset), uint64(length)}
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, f.Fd(), uintptr(request), uintptr(unsafe.Pointer(&arg))) //nolint:gosec // how the kernel takes it
	if errno != 0 {
		return errno
	}
	return nil
}
