package freeze

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"strings"
	"sync"
	"time"

	"snapd/internal/proc"

	"snapd/internal/advice"

	"golang.org/x/sys/unix"
)

// Filesystem is one that is frozen in the window.
type Filesystem struct {
	Dir    string // where it is mounted on this host
	Type   string // ext4 or xfs
	Device uint64 // as st_dev of Dir has it
	Name   string // of the volume it lies on, for users
}

func (f Filesystem) String() string {
	if f.Name == "" {
		return "filesystem " + f.Dir
	}
	return "filesystem " + f.Dir + " (" + f.Name + ")"
}

// Request numbers of linux/fs.h: _IOWR('X', 119, int) and _IOWR('X', 120, int).
const (
	fiFreeze = 0xC0045877
	fiThaw   = 0xC0045878
)

// Limits of what the thaw waits for. A freeze that is being made cannot be
// cancelled, and what it waits for may be a device that is gone.
const (
	diskPatience = 200 * time.Millisecond // then the members are thawed all the same
	diskLimit    = 15 * time.Second       // then Run returns an error, and the journal stays
)

// disk is one filesystem, opened. Each has a thread of its own, since freezing
// one can take hundreds of milliseconds and cannot be interrupted.
type disk struct {
	Filesystem
	fd      int
	begun   bool          // under Window.mu: told to freeze
	still   chan struct{} // closed when the kernel has said whether it is frozen
	done    chan struct{} // closed when it is thawed, or was never frozen
	err     error         // of freezing, read after still
	thawErr error         // read after done
}

// openDisk opens the directory and makes sure that it is where that very
// filesystem is mounted.
func openDisk(f Filesystem) (_ *disk, err error) {
	fd, err := unix.Open(f.Dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: f.Dir, Err: err}
	}
	d := &disk{Filesystem: f, fd: fd, still: make(chan struct{}), done: make(chan struct{})}
	defer func() {
		if err != nil {
			d.close()
		}
	}()
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return nil, &os.PathError{Op: "stat", Path: f.Dir, Err: err}
	}
	if f.Device != 0 && st.Dev != f.Device {
		return nil, fmt.Errorf("%s is on another device now: %w", f.Dir, ErrChanged)
	}
	d.Device = st.Dev
	var at unix.Statx_t
	if err := unix.Statx(fd, "", unix.AT_EMPTY_PATH, unix.STATX_TYPE|unix.STATX_MNT_ID, &at); err != nil {
		return nil, &os.PathError{Op: "stat", Path: f.Dir, Err: err}
	}
	mounts, err := proc.Own()
	if err != nil {
		return nil, fmt.Errorf("read the mount table: %w", err)
	}
	m, found := mounts.ByID(at.Mnt_id)
	if !found {
		return nil, fmt.Errorf("%s lies on a mount that is not in the mount table: %w", f.Dir, ErrChanged)
	}
	d.Type = m.Type
	if m.Point != f.Dir {
		return nil, fmt.Errorf("%s is not where a filesystem is mounted, %s is: %w", f.Dir, m.Point, ErrCannotFreeze)
	}
	return d, nil
}

// flush writes what is dirty, so that freezing has little left to write.
func (d *disk) flush() error {
	if err := unix.Syncfs(d.fd); err != nil {
		return fmt.Errorf("flush %s: %w", d, err)
	}
	return nil
}

func (d *disk) close() {
	if d.fd >= 0 {
		_ = unix.Close(d.fd)
		d.fd = -1
	}
}

// freezeFilesystem and thawFilesystem are the two calls of the kernel, FIFREEZE
// and FITHAW. thawFilesystem tells whether the filesystem was frozen.
func freezeFilesystem(fd int) error { return ioctl(fd, fiFreeze) }

func thawFilesystem(fd int) (wasFrozen bool, err error) {
	err = ioctl(fd, fiThaw)
	if errors.Is(err, unix.EINVAL) {
		return false, nil
	}
	return err == nil, err
}

func ioctl(fd, request int) error {
	for {
		err := unix.IoctlSetInt(fd, uint(request), 0)
		if err != unix.EINTR {
			return err
		}
	}
}

// serve is the thread of one filesystem: it waits for the window, freezes when
// told to, and thaws when the thaw begins, however late the kernel is with
// freezing.
func (d *disk) serve(w *Window, ready *sync.WaitGroup) {
	defer close(d.done)
	runtime.LockOSThread()
	lower := raise(windowPriority)
	defer func() {
		if lower() {
			runtime.UnlockOSThread()
		}
	}()
	ready.Done()
	select {
	case <-w.freezeNow:
	case <-w.released:
		return
	}
	d.err = freezeFilesystem(d.fd)
	close(d.still)
	<-w.released
	if d.err != nil {
		return
	}
	wasFrozen, err := thawFilesystem(d.fd)
	switch {
	case err != nil:
		d.thawErr = fmt.Errorf("thaw %s: %w", d, err)
	case !wasFrozen:
		d.thawErr = fmt.Errorf("%s %w: another program thawed it", d, ErrDisturbed)
	}
}

// freezeDisks freezes all filesystems at once and waits until they are frozen.
func (w *Window) freezeDisks() error {
	if len(w.disks) == 0 {
		return nil
	}
	w.mu.Lock()
	if w.thawing {
		w.mu.Unlock()
		return errExpired
	}
	for _, d := range w.disks {
		d.begun = true
	}
	close(w.freezeNow)
	w.mu.Unlock()
	for _, d := range w.disks {
		select {
		case <-w.released:
			return errExpired
		case <-d.still:
		}
		if d.err != nil {
			return d.explain()
		}
		w.fault(StepDiskFrozen)
	}
	return nil
}

func (d *disk) explain() error {
	err := fmt.Errorf("freeze %s: %w", d, d.err)
	if errors.Is(d.err, unix.EBUSY) {
		return advice.With(fmt.Errorf("%w: another program has frozen it, or is just doing so", err), "if none should have, run: fsfreeze --unfreeze %s", d.Dir)
	}
	return err
}

// awaitDisksThawed waits until the filesystems are thawed. Their threads thaw
// them as soon as the thaw begins. It tells whether all of them did in time.
func (w *Window) awaitDisksThawed(patience time.Duration) bool {
	enough := time.NewTimer(patience)
	defer enough.Stop()
	for _, d := range w.disks {
		if !d.begun {
			continue
		}
		select {
		case <-d.done:
			if d.err == nil {
				w.fault(StepDiskThawed)
			}
		case <-enough.C:
			return false
		}
	}
	return true
}

// diskFaults joins what went wrong with thawing filesystems: stuck ones may
// still be frozen, disturbed ones were not frozen all the time.
func (w *Window) diskFaults() (stuck, disturbed error) {
	for _, d := range w.disks {
		if !d.begun {
			continue
		}
		select {
		case <-d.done:
		default:
			stuck = errors.Join(stuck, fmt.Errorf("%s: the kernel is still freezing it, and that cannot be cancelled; it is thawed as soon as the kernel is done", d))
			continue
		}
		switch {
		case errors.Is(d.thawErr, ErrDisturbed):
			disturbed = errors.Join(disturbed, d.thawErr)
		case d.thawErr != nil:
			stuck = errors.Join(stuck, d.thawErr)
		}
	}
	return stuck, disturbed
}

// waitingDisks names those that were not frozen in time.
func (w *Window) waitingDisks() []string {
	var out []string
	for _, d := range w.disks {
		select {
		case <-d.still:
			continue
		default:
		}
		if d.begun {
			out = append(out, d.String())
		}
	}
	return out
}

// recover thaws a filesystem that a dead window froze, by any path at which it
// can still be reached.
func (d journalDisk) recover() (Outcome, error) {
	dirs, err := mountsOf(d.Dev, d.Dir)
	if err != nil {
		return "", err
	}
	var faults error
	for _, dir := range dirs {
		fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		if err != nil {
			faults = errors.Join(faults, &os.PathError{Op: "open", Path: dir, Err: err})
			continue
		}
		outcome, same, err := d.thaw(fd)
		_ = unix.Close(fd)
		if same {
			return outcome, err
		}
	}
	if faults != nil {
		return "", faults
	}
	return Vanished, nil
}

func (d journalDisk) thaw(fd int) (outcome Outcome, same bool, err error) {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil || st.Dev != d.Dev {
		return "", false, err
	}
	wasFrozen, err := thawFilesystem(fd)
	if err != nil {
		return "", true, fmt.Errorf("thaw it: %w", err)
	}
	if wasFrozen {
		return Thawed, true, nil
	}
	return Moving, true, nil
}

// mountsOf lists where a device is mounted, first the directory where it was.
func mountsOf(dev uint64, first string) ([]string, error) {
	mounts, err := proc.Own()
	if err != nil {
		return nil, fmt.Errorf("read the mount table: %w", err)
	}
	out := []string{}
	for _, m := range mounts {
		if m.Device.Number() != dev || strings.HasSuffix(m.Point, "//deleted") {
			continue
		}
		if m.Point == first {
			out = append([]string{first}, out...)
		} else {
			out = append(out, m.Point)
		}
	}
	return out, nil
}
