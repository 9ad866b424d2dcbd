package host

import (
	"errors"
	"fmt"
	"net"
	"os"

	"snapd/internal/advice"

	"github.com/coreos/go-systemd/v22/activation"
	"golang.org/x/sys/unix"
)

// ErrNoSocket means that systemd passed no socket in.
var ErrNoSocket = advice.With(errors.New("no socket was passed in: systemd starts the agent through snapd-agent.socket"), "run: systemctl enable --now snapd-agent.socket")

// Listener returns the one Unix socket that systemd passed to this process,
// and the group that it belongs to. It takes it from the environment, so that
// no child believes it is meant.
func Listener() (_ *net.UnixListener, gid int, err error) {
	files := activation.Files(true)
	defer func() {
		for _, f := range files {
			err = errors.Join(err, f.Close())
		}
	}()
	if len(files) != 1 {
		return nil, 0, fmt.Errorf("%w (sockets: %d)", ErrNoSocket, len(files))
	}
	l, err := net.FileListener(files[0])
	if err != nil {
		return nil, 0, fmt.Errorf("%w: %w", ErrNoSocket, err)
	}
	unixListener, ok := l.(*net.UnixListener)
	if !ok {
		return nil, 0, errors.Join(fmt.Errorf("%w: it is a %s socket and no Unix one", ErrNoSocket, l.Addr().Network()), l.Close())
	}
	if gid, err = socketGroup(unixListener.Addr().String()); err != nil {
		return nil, 0, errors.Join(err, l.Close())
	}
	return unixListener, gid, nil
}

// socketGroup is the group that may connect. It is asked from the file, so that
// a group of a directory server counts, and its name nowhere.
func socketGroup(path string) (int, error) {
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err != nil {
		return 0, &os.PathError{Op: "stat", Path: path, Err: err}
	}
	if st.Mode&0o007 != 0 {
		return 0, advice.With(fmt.Errorf("the socket %s is open to every user (mode %o)", path, st.Mode&0o777), "set SocketMode=0660 in snapd-agent.socket")
	}
	return int(st.Gid), nil
}
