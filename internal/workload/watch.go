package workload

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"strconv"

	"snapd/internal/proc"

	"golang.org/x/sys/unix"
)

// Watch sees which processes write to the files of a group while its snapshots
// are taken, also those that open a file, write and close it in between. It sees
// write, truncate and the like, whichever mount they come through (fanotify(7)).
// It does not see what is written through memory, nor what is only renamed or
// removed.
type Watch struct {
	reach *Reach
	fd    int
	paths []string // one on each filesystem: an open descriptor would keep it from being unmounted
}

// Watch prepares a watch; the caller closes it. Nothing is watched before Begin.
func (r *Reach) Watch() (*Watch, error) {
	// The queue's limit stays: what writes in the window is not frozen, so that it
	// may write as much as it likes.
	fd, err := unix.FanotifyInit(unix.FAN_CLASS_NOTIF|unix.FAN_CLOEXEC|unix.FAN_NONBLOCK, unix.O_RDONLY|unix.O_CLOEXEC|unix.O_LARGEFILE)
	if err != nil {
		return nil, fmt.Errorf("watch who writes to files: %w", err)
	}
	w := &Watch{reach: r, fd: fd}
	have := map[proc.Device]bool{}
	for _, s := range r.spots {
		if have[s.dev] {
			continue
		}
		have[s.dev] = true
		w.paths = append(w.paths, s.path)
	}
	return w, nil
}

// Close may be called twice.
func (w *Watch) Close() error {
	_ = unix.Close(w.fd)
	w.fd = -1
	return nil
}

// Begin and End enclose the snapshots. They are called in the window: a few
// microseconds each.
func (w *Watch) Begin() error {
	for _, path := range w.paths {
		if err := unix.FanotifyMark(w.fd, unix.FAN_MARK_ADD|unix.FAN_MARK_FILESYSTEM|unix.FAN_MARK_DONT_FOLLOW, unix.FAN_MODIFY, unix.AT_FDCWD, path); err != nil {
			return os.NewSyscallError("fanotify_mark", err)
		}
	}
	return nil
}

// End is needed also after a Begin that failed.
func (w *Watch) End() {
	_ = unix.FanotifyMark(w.fd, unix.FAN_MARK_FLUSH|unix.FAN_MARK_FILESYSTEM, 0, unix.AT_FDCWD, "/") // Close does it too
}

// Wrote are the processes that wrote to files of the group between Begin and End.
// An error says that not all may be among them.
func (w *Watch) Wrote() ([]Process, error) {
	var out []Process
	buffer := make([]byte, 64<<10)
	o := opener{tables: map[string]proc.Table{}}
	var missed error
	for {
		n, err := unix.Read(w.fd, buffer)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if errors.Is(err, unix.EAGAIN) || n == 0 {
			return out, missed
		}
		if err != nil {
			return out, errors.Join(missed, fmt.Errorf("read who wrote to files: %w", err))
		}
		for rest := buffer[:n]; len(rest) >= unix.FAN_EVENT_METADATA_LEN; {
			e := event(rest)
			if e.Event_len < uint32(e.Metadata_len) || int(e.Event_len) > len(rest) {
				return out, errors.New("read who wrote to files: the kernel says what snapd does not understand")
			}
			rest = rest[e.Event_len:]
			if e.Mask&unix.FAN_Q_OVERFLOW != 0 {
				missed = errors.New("more was written than the kernel remembers")
			}
			if e.Fd < 0 {
				continue
			}
			out = w.event(out, &o, e)
			_ = unix.Close(int(e.Fd))
		}
	}
}

// event decodes one event as the kernel lays it out; see fanotify(7).
func event(b []byte) unix.FanotifyEventMetadata {
	n := binary.NativeEndian
	return unix.FanotifyEventMetadata{
		Event_len: n.Uint32(b), Vers: b[4], Metadata_len: n.Uint16(b[6:]),
		Mask: n.Uint64(b[8:]), Fd: int32(n.Uint32(b[16:])), Pid: int32(n.Uint32(b[20:])),
	}
}

func (w *Watch) event(out []Process, o *opener, e unix.FanotifyEventMetadata) []Process {
	var st unix.Stat_t
	if err := unix.Fstat(int(e.Fd), &st); err != nil || st.Nlink == 0 || int(e.Pid) == os.Getpid() {
		return out
	}
	at := proc.DeviceOf(st.Dev)
	link := "/proc/self/fd/" + strconv.Itoa(int(e.Fd))
	path, err := os.Readlink(link)
	if err != nil {
		return out
	}
	info, err := os.ReadFile("/proc/self/fdinfo/" + strconv.Itoa(int(e.Fd)))
	if err != nil {
		return out
	}
	id := mountID(info)
	p, _ := processOf(int(e.Pid)) // when it has ended, it wrote all the same
	for _, dir := range []string{"/proc/" + strconv.Itoa(int(e.Pid)), "/proc/1", "/proc/self"} {
		if m, ok := o.table(dir).ByID(id); ok {
			return w.reach.holder(out, openFile{process: p, spot: below(m, path), inodes: at})
		}
	}
	// It has ended, and its mounts with it: which of the dataset's files it was is
	// not known.
	for _, s := range w.reach.spots {
		if s.inodes == at {
			return w.reach.holder(out, openFile{process: p, spot: s.spot, inodes: at})
		}
	}
	return out
}
