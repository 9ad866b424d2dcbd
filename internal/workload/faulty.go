package workload

import (
	"context"
	"errors"
	"os"
	"slices"

	"snapd/internal/cgroup"
	"snapd/internal/fs"

	"golang.org/x/sys/unix"
)

// EndsAgain follows the name of a container in a warning of it.
const EndsAgain = "ends by itself and is started again and again"

// resting finds members that have ended since they were listed, and says which
// ones the engine starts again and again.
func (r *resolver) resting() {
	r.group.Members = slices.Clone(r.group.Members)
	for _, c := range r.group.Members {
		if c.Restarting {
			r.warn("container %s "+EndsAgain+": it did not run when the restore point was begun, and was not frozen", c.Name)
		}
		if c.Running && c.Pid > 0 {
			if _, err := cgroup.Of(c.Pid); gone(err) {
				r.hasEnded(c)
			}
		}
	}
}

// gone tells whether an error of reading something of a process says that it has
// ended, even when it was not waited for yet.
func gone(err error) bool {
	return errors.Is(err, os.ErrNotExist) || errors.Is(err, unix.ESRCH) || errors.Is(err, unix.EINVAL)
}

// hasEnded notes that a member does not run any more.
func (r *resolver) hasEnded(c Container) {
	i := slices.IndexFunc(r.group.Members, func(m Container) bool { return m.ID == c.ID })
	if i < 0 || !r.group.Members[i].Running {
		return
	}
	r.group.Members[i].Running, r.group.Members[i].Pid = false, 0
	r.out.Ended = append(r.out.Ended, c.ID)
	r.warn("container %s ended just before the restore point was begun, and was not frozen", c.Name)
}

// faulty looks by the host's paths whether a container that cannot be frozen
// writes to the group's datasets. It is not the process that is asked: it need
// not be the container's.
func (r *resolver) faulty(ctx context.Context, c Container) {
	w := Writer{Container: c, Refuses: refuses(c)}
	var unknown error
	for _, m := range c.Mounts {
		if !m.Writable || m.Kind == Tmpfs || network(m.FSType) {
			continue
		}
		if err := r.reachesBySource(ctx, &w, m); err != nil {
			unknown = err
		}
	}
	switch {
	case len(w.Datasets) > 0:
		r.warn("%v: it may write to the group's datasets, and cannot be frozen", c.fault())
		r.out.Writers = append(r.out.Writers, w)
	case unknown != nil:
		r.warn("%v: whether it writes to the group's datasets cannot be told: %v", c.fault(), unknown)
	}
}

var errNoSource = errors.New("the engine does not say where its mounts lie on this host")

func (r *resolver) reachesBySource(ctx context.Context, w *Writer, m Mount) error {
	if m.Source == "" {
		return errNoSource
	}
	real, err := r.names.real(ctx, m.Source)
	if _, remote := errors.AsType[*errRemote](err); remote {
		return nil // none of the group's datasets lies there
	}
	if err != nil {
		return err
	}
	at, err := r.names.look(ctx, real)
	if err != nil || !slices.ContainsFunc(r.spots, func(s owned) bool { return s.dev == at.dev }) {
		return err
	}
	if err := r.reaches(ctx, w, at.spot, real, true); !errors.Is(err, fs.ErrNotMine) {
		return err
	}
	return nil
}
