package proc

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// Kill ends a process that is still says is the one that is meant, and that has
// been looked at before: it is asked while the process is held by a descriptor, so
// that its number cannot be another's meanwhile. One that has ended is no error.
// Processes of other users need CAP_KILL.
func Kill(pid int, still func() bool) error {
	fd, err := unix.PidfdOpen(pid, 0)
	if errors.Is(err, unix.ESRCH) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("hold process %d: %w", pid, err)
	}
	defer unix.Close(fd) //nolint:errcheck // only a handle
	if !still() {
		return nil
	}
	switch err := unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0); {
	case err == nil || errors.Is(err, unix.ESRCH):
		return nil
	case errors.Is(err, unix.EPERM):
		return fmt.Errorf("end process %d: %w: it is another user's, and snapd runs without CAP_KILL", pid, err)
	default:
		return fmt.Errorf("end process %d: %w", pid, err)
	}
}
