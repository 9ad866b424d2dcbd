package workload

import (
	"context"
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
// write, truncate and the like, and names that are made, moved and removed,
// whichever mount they come through (fanotify(7)). It does not see what is written
// through memory.
type Watch struct {
	reach *Reach
	fd    int
	paths []string    // one on each filesystem: an open descriptor would keep it from being unmounted
	names []nameWatch // of those filesystems where the kernel tells of names
}

// Watch prepares a watch; the caller closes it soon. Nothing is watched before
// Begin.
func (r *Reach) Watch(ctx context.Context) (*Watch, error) {
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
		if n, err := r.watchNames(ctx, s); err == nil { // some kernels, and filesystems, do not tell
			w.names = append(w.names, n)
		}
	}
	return w, nil
}

// Close may be called twice.
func (w *Watch) Close() error {
	_ = unix.Close(w.fd)
	w.fd = -1
	for _, n := range w.names {
		n.close()
	}
	w.names = nil
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
	for _, n := range w.names {
		if err := n.begin(); err != nil {
			return err
		}
	}
	return nil
}

// End is needed also after a Begin that failed.
func (w *Watch) End() {
	for _, fd := range w.descriptors() {
		_ = unix.FanotifyMark(fd, unix.FAN_MARK_FLUSH|unix.FAN_MARK_FILESYSTEM, 0, unix.AT_FDCWD, "/") // Close does it too
	}
}

func (w *Watch) descriptors() []int {
	out := []int{w.fd}
	for _, n := range w.names {
		out = append(out, n.fd)
	}
	return out
}

// Wrote are the processes that wrote to files of the group between Begin and End.
// An error says that not all may be among them.
func (w *Watch) Wrote() ([]Process, error) {
	var out []Process
	o := opener{tables: map[string]proc.Table{}}
	missed := eachEvent(w.fd, func(e unix.FanotifyEventMetadata, _ []byte) {
		if e.Fd >= 0 {
			out = w.event(out, &o, e)
			_ = unix.Close(int(e.Fd))
		}
	})
	for _, n := range w.names {
		missed = errors.Join(missed, eachEvent(n.fd, func(e unix.FanotifyEventMetadata, more []byte) {
			out = w.reach.named(out, n, e, more)
		}))
	}
	return out, missed
}

// eachEvent calls do for every event that waits, with what follows it. An error
// says that there were more.
func eachEvent(fd int, do func(e unix.FanotifyEventMetadata, more []byte)) error {
	buffer := make([]byte, 64<<10)
	var missed error
	for {
		n, err := unix.Read(fd, buffer)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if errors.Is(err, unix.EAGAIN) || n == 0 {
			return missed
		}
		if err != nil {
			return errors.Join(missed, fmt.Errorf("read who wrote to files: %w", err))
		}
		for rest := buffer[:n]; len(rest) >= unix.FAN_EVENT_METADATA_LEN; {
			e := event(rest)
			if e.Event_len < uint32(e.Metadata_len) || e.Metadata_len < unix.FAN_EVENT_METADATA_LEN || int(e.Event_len) > len(rest) {
				return errors.New("read who wrote to files: the kernel says what snapd does not understand")
			}
			if e.Mask&unix.FAN_Q_OVERFLOW != 0 {
				missed = errors.New("more was written than the kernel remembers")
			}
			do(e, rest[e.Metadata_len:e.Event_len])
			rest = rest[e.Event_len:]
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
