package host

import (
	"errors"
	"fmt"
	"os"

	"github.com/coreos/go-systemd/v22/login1"
)

// ErrNoLogind means that no program here grants inhibitor locks. Work goes on
// without them.
var ErrNoLogind = errors.New("no logind answers on the system bus, so a shutdown of the host can come in between")

// Inhibitor keeps the host from shutting down and sleeping until it is
// released, or this process ends.
type Inhibitor struct{ locks []*os.File }

// Inhibit takes two locks on shutdown and sleep: block, which users and, from
// systemd 257 on, root obey; and delay, which makes every
// shutdown wait for InhibitDelayMaxSec (5 s by default). Neither holds against
// --force or a power cut. why is shown by systemd-inhibit --list.
func Inhibit(why string) (*Inhibitor, error) {
	conn, err := login1.New()
	if err != nil {
		return nil, fmt.Errorf("%w (%w)", ErrNoLogind, err)
	}
	defer conn.Close()
	i := &Inhibitor{}
	for _, mode := range []string{"block", "delay"} {
		lock, err := conn.Inhibit("shutdown:sleep", "snapd", why, mode)
		if err != nil {
			return nil, errors.Join(fmt.Errorf("%w (%s lock: %w)", ErrNoLogind, mode, err), i.Release())
		}
		i.locks = append(i.locks, lock)
	}
	return i, nil
}

// Release gives the locks back. It may be called twice, and on nil.
func (i *Inhibitor) Release() error {
	if i == nil {
		return nil
	}
	var faults []error
	for _, lock := range i.locks {
		faults = append(faults, lock.Close())
	}
	i.locks = nil
	return errors.Join(faults...)
}
