package btrfs

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"unsafe"

	"snapd/internal/advice"
	"snapd/internal/fs"
	"snapd/internal/fs/btrfs/btrfsstream"
	"snapd/internal/run"

	"golang.org/x/sys/unix"
)

const (
	sendVersion    = 0x8  // BTRFS_SEND_FLAG_VERSION
	sendCompressed = 0x10 // BTRFS_SEND_FLAG_COMPRESSED

	// sendPipeSize lets the kernel work on while the reader is busy, in bytes.
	sendPipeSize = 1 << 20

	// progsForV2 is the first btrfs-progs that reads protocol 2.
	progsForV2 = 6
)

// Format implements fs.Driver: "btrfs-1" or "btrfs-2", the same for all that
// this host sends. The second carries compressed extents as they are. It is
// chosen where the kernel makes it and the installed btrfs-progs, standing for
// those of the host that will restore, read it.
func (d *Driver) Format(ctx context.Context, _ fs.Snapshot) (format string, fixed bool, err error) {
	version, err := d.sendProtocol(ctx)
	if err != nil {
		return "", false, err
	}
	return btrfsstream.FormatName(version), false, nil
}

func (d *Driver) sendProtocol(ctx context.Context) (uint32, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.protocol == 0 {
		version, err := askProtocol(ctx)
		if err != nil {
			return 0, err
		}
		d.protocol = version
	}
	return d.protocol, nil
}

func askProtocol(ctx context.Context) (uint32, error) {
	text, err := os.ReadFile("/sys/fs/btrfs/features/send_stream_version")
	if errors.Is(err, os.ErrNotExist) {
		return 1, nil // a kernel before 5.10 knows only that
	}
	if err != nil {
		return 0, fmt.Errorf("ask the kernel for its stream protocol: %w", err)
	}
	if kernel, err := strconv.Atoi(strings.TrimSpace(string(text))); err != nil || kernel < 2 {
		return 1, err
	}
	major, err := progsVersion(ctx)
	if errors.Is(err, exec.ErrNotFound) {
		return 1, nil // sending needs no program, and every receiver reads this
	}
	if err != nil || major < progsForV2 {
		return 1, err
	}
	return 2, nil
}

// progsVersion returns the major version of the installed btrfs-progs.
func progsVersion(ctx context.Context) (int, error) {
	out, err := run.Output(ctx, "btrfs", "--version")
	if err != nil {
		return 0, fmt.Errorf("ask btrfs-progs for their version: %w", err)
	}
	return progsMajor(string(out))
}

// progsMajor parses what btrfs --version prints, such as "btrfs-progs v6.2".
func progsMajor(out string) (int, error) {
	_, version, found := strings.Cut(out, "btrfs-progs v")
	major, _, whole := strings.Cut(version, ".")
	n, err := strconv.Atoi(major)
	if !found || !whole || err != nil {
		return 0, fmt.Errorf("btrfs --version printed %q, and that has no version number", out)
	}
	return n, nil
}

// Send implements fs.Driver.
func (d *Driver) Send(ctx context.Context, s fs.Snapshot, base *fs.Snapshot) (io.ReadCloser, error) {
	r, err := d.send(ctx, s, base)
	if err != nil {
		return nil, fmt.Errorf("send snapshot %s of %s: %w", s.Name, s.Dataset.Name, err)
	}
	return r, nil
}

func (d *Driver) send(ctx context.Context, s fs.Snapshot, base *fs.Snapshot) (io.ReadCloser, error) {
	version, err := d.sendProtocol(ctx)
	if err != nil {
		return nil, err
	}
	id, err := d.identify(ctx, s.Dataset)
	if err != nil {
		return nil, err
	}
	f, err := openFilesystem(id.fsid)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	args := &sendArgs{}
	if version > 1 {
		args.version, args.flags = version, sendVersion|sendCompressed
	}
	since := uint64(0)
	if base != nil {
		info, err := d.baseInfo(ctx, f, id, *base)
		if err != nil {
			return nil, fmt.Errorf("base %s: %w: %w", base.Name, fs.ErrBase, err)
		}
		args.parentRoot, since = info.treeID, info.otransid
	}
	root, info, err := openSnapshot(f, id, s)
	if err != nil {
		return nil, err
	}
	sending, err := startSend(ctx, root, args, version)
	if err != nil {
		return nil, errors.Join(err, root.Close())
	}
	sending.unreadable = func(ctx context.Context) error {
		return d.unreadable(ctx, s, id, search{tree: info.treeID, since: since}, &sending.frames)
	}
	return sending, nil
}

// baseInfo describes the subvolume that a base on the same filesystem is.
func (d *Driver) baseInfo(ctx context.Context, f *os.File, of identity, base fs.Snapshot) (subvolInfoArgs, error) {
	id, err := d.identify(ctx, base.Dataset)
	if err != nil {
		return subvolInfoArgs{}, err
	}
	if id != of {
		return subvolInfoArgs{}, errors.New("it is a snapshot of another subvolume")
	}
	root, info, err := openSnapshot(f, id, base)
	if err != nil {
		return subvolInfoArgs{}, err
	}
	return info, root.Close()
}

// sending is a stream that the kernel writes into a pipe.
type sending struct {
	r       *os.File
	version uint32
	frames  btrfsstream.Frames
	// unreadable finds the file that the kernel could not read, nil when it is none.
	unreadable func(ctx context.Context) error
	ctx        context.Context //nolint:containedctx // of the one Send that made it
	unhook     func() bool
	done       chan struct{} // closed when the kernel is through
	err        error         // the kernel's; valid after done
	once       sync.Once
	closed     error // valid after once
}

func startSend(ctx context.Context, root *os.File, args *sendArgs, version uint32) (*sending, error) {
	var pipe [2]int
	if err := unix.Pipe2(pipe[:], unix.O_CLOEXEC); err != nil {
		return nil, os.NewSyscallError("pipe2", err)
	}
	// More than pipe-max-size allows is refused; then the usual size serves.
	_, _ = unix.FcntlInt(uintptr(pipe[0]), unix.F_SETPIPE_SZ, sendPipeSize)
	// Only our end may be non-blocking: the kernel does not wait on its own.
	if err := unix.SetNonblock(pipe[0], true); err != nil {
		return nil, errors.Join(os.NewSyscallError("fcntl", err), unix.Close(pipe[0]), unix.Close(pipe[1]))
	}
	s := &sending{r: os.NewFile(uintptr(pipe[0]), "stream of "+root.Name()), version: version, ctx: ctx, done: make(chan struct{})}
	s.unhook = context.AfterFunc(ctx, func() { _ = s.r.Close() })
	go onThread(func() {
		defer close(s.done)
		s.err = sendInto(root, args, pipe[1])
	})
	return s, nil
}

// sendInto runs the ioctl on a thread that no signal reaches: a signal in the
// middle would make the kernel begin the stream again from its start.
func sendInto(root *os.File, args *sendArgs, w int) error {
	var all unix.Sigset_t
	for i := range all.Val {
		all.Val[i] = ^all.Val[i]
	}
	err := unix.PthreadSigmask(unix.SIG_BLOCK, &all, nil)
	if err == nil {
		args.sendFD = int64(w)
		if args.parentRoot != 0 { // extents can be shared with the base, too
			sources := [1]uint64{args.parentRoot}
			args.cloneSources, args.cloneSourcesCount = &sources[0], 1
		}
		err = ioctl(root, iocSend, unsafe.Pointer(args)) //nolint:gosec // how the kernel takes it
	}
	if errors.Is(err, unix.EAGAIN) {
		err = advice.With(fmt.Errorf("%w: %w: a balance or deduplication is running", fs.ErrBusy, err), "wait for it (btrfs balance status)")
	}
	return errors.Join(err, root.Close(), unix.Close(w))
}

// onThread runs f on an OS thread that ends with it.
func onThread(f func()) {
	runtime.LockOSThread()
	if unix.Gettid() != unix.Getpid() {
		f()
		return // still locked, so the thread ends
	}
	// The main thread cannot end: keep it busy, and take another.
	defer runtime.UnlockOSThread()
	done := make(chan struct{})
	go func() {
		defer close(done)
		onThread(f)
	}()
	<-done
}

func (s *sending) Read(p []byte) (int, error) {
	n, err := s.r.Read(p)
	s.frames.Pass(p[:n])
	if n > 0 || err == nil {
		return n, nil
	}
	if err := s.ctx.Err(); err != nil {
		return 0, err
	}
	if !errors.Is(err, io.EOF) {
		return 0, err
	}
	<-s.done
	if errors.Is(s.err, unix.EIO) {
		if err := s.unreadable(s.ctx); err != nil {
			return 0, fmt.Errorf("the kernel's send: %w", err)
		}
	}
	if errors.Is(s.err, unix.EIO) {
		return 0, fmt.Errorf("the kernel's send: %w: %w", fs.ErrUnreadable, explain(s.err))
	}
	if s.err != nil {
		return 0, fmt.Errorf("the kernel's send: %w", explain(s.err))
	}
	if !s.frames.Whole() {
		return 0, fmt.Errorf("the kernel's send: %w: it ended without its end mark: %w", btrfsstream.ErrInvalid, io.ErrUnexpectedEOF)
	}
	return 0, io.EOF
}

// Close ends the sender and waits for it. It may be called twice.
func (s *sending) Close() error {
	s.once.Do(func() {
		s.unhook()
		if err := s.r.Close(); !errors.Is(err, os.ErrClosed) {
			s.closed = err
		}
		<-s.done // a broken pipe ends the ioctl
	})
	return s.closed
}
