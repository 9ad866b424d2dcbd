package freeze

import (
	"bytes"
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// target is one member, opened. Its methods that the window calls neither
// allocate nor log.
type target struct {
	Member
	how       How
	dev, ino  uint64       // identity of the cgroup's directory
	freezer   int          // cgroup.freeze, -1 when not open
	events    int          // cgroup.events, -1 when not open
	engine    *pauser      // ByPause only
	stopper   *stopper     // ByStop only
	index     int          // in the journal
	askEngine func() state // LeftAlone in the engine only
	buffer    [256]byte    // what events reads
	touched   bool         // under Window.mu: told to freeze, and not yet thawed
	frozen    bool         // it was seen frozen
	gone      bool         // its cgroup was removed or is empty
}

func newTarget(m Member) *target {
	return &target{Member: m, how: ByCgroup, freezer: -1, events: -1}
}

// open opens the files of the cgroup at dir by one directory descriptor, so
// that they belong together whatever is renamed meanwhile.
func (t *target) open(dir string) error {
	fd, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return &os.PathError{Op: "open", Path: dir, Err: err}
	}
	defer unix.Close(fd) //nolint:errcheck // only a handle
	var kind unix.Statfs_t
	if err := unix.Fstatfs(fd, &kind); err != nil {
		return &os.PathError{Op: "statfs", Path: dir, Err: err}
	}
	if kind.Type != unix.CGROUP2_SUPER_MAGIC {
		return fmt.Errorf("%s is not in a cgroup v2 tree: %w", dir, ErrNeverFreeze)
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return &os.PathError{Op: "stat", Path: dir, Err: err}
	}
	t.dev, t.ino = st.Dev, st.Ino
	if t.freezer, err = unix.Openat(fd, "cgroup.freeze", unix.O_RDWR|unix.O_CLOEXEC, 0); err != nil {
		return &os.PathError{Op: "open", Path: dir + "/cgroup.freeze", Err: err}
	}
	if t.events, err = unix.Openat(fd, "cgroup.events", unix.O_RDONLY|unix.O_CLOEXEC, 0); err != nil {
		return &os.PathError{Op: "open", Path: dir + "/cgroup.events", Err: err}
	}
	return nil
}

func (t *target) close() {
	for _, fd := range []*int{&t.freezer, &t.events} {
		if *fd >= 0 {
			_ = unix.Close(*fd)
			*fd = -1
		}
	}
}

// write puts '1' or '0' into cgroup.freeze. A cgroup that is gone is no
// error: no process is left in it.
func (t *target) write(value byte) error {
	one := [1]byte{value}
	for {
		_, err := unix.Pwrite(t.freezer, one[:], 0)
		switch err {
		case unix.EINTR:
		case unix.ENODEV:
			t.gone = true
			return nil
		default:
			return err
		}
	}
}

// look reads cgroup.events and tells whether no process runs in the cgroup:
// because it is frozen, or because none is left in it.
func (t *target) look() (still bool, err error) {
	for {
		n, err := unix.Pread(t.events, t.buffer[:], 0)
		switch {
		case err == unix.EINTR:
			continue
		case err == unix.ENODEV:
			t.gone = true
			return true, nil
		case err != nil:
			return false, err
		}
		text := t.buffer[:n]
		if bytes.Contains(text, []byte("populated 0")) {
			t.gone = true
			return true, nil
		}
		return bytes.Contains(text, []byte("frozen 1")), nil
	}
}

// switchedOn reads cgroup.freeze itself, which is not what an ancestor imposes.
func (t *target) switchedOn() (bool, error) {
	var b [2]byte
	n, err := unix.Pread(t.freezer, b[:], 0)
	if errors.Is(err, unix.ENODEV) {
		t.gone = true
		return false, nil
	}
	return n > 0 && b[0] == '1', err
}

// alreadyFrozen tells whether another program has frozen the cgroup or one
// above it.
func (t *target) alreadyFrozen() (bool, error) {
	on, err := t.switchedOn()
	if on || err != nil {
		return on, err
	}
	still, err := t.look()
	return still && !t.gone, err
}
