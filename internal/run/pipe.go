package run

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// pipeSize is how much of a program's output is buffered while the reader is busy, in bytes. More
// than /proc/sys/fs/pipe-max-size is refused, and then the default serves.
const pipeSize = 1 << 20

// Pipe starts the program and returns what it writes to standard output. The
// last Read returns io.EOF only if the program ended with status 0, and the
// error of the program otherwise. Close ends the program if it still runs and
// waits for it; it may be called twice.
func (p Program) Pipe(ctx context.Context) (io.ReadCloser, error) {
	r, w, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("make a pipe for %v: %w", p.Argv, err)
	}
	if conn, err := r.SyscallConn(); err == nil {
		_ = conn.Control(func(fd uintptr) { _, _ = unix.FcntlInt(fd, unix.F_SETPIPE_SZ, pipeSize) })
	}
	c, err := p.start(ctx, w)
	if err != nil {
		return nil, errors.Join(err, r.Close(), w.Close())
	}
	if err := w.Close(); err != nil {
		_ = c.kill()
		return nil, errors.Join(err, c.wait(), r.Close())
	}
	return &output{child: c, r: r}, nil
}

// output is the reading end of a program.
type output struct {
	child *child
	r     *os.File
	once  sync.Once
	end   error // what became of the program; valid after once
}

func (o *output) Read(p []byte) (int, error) {
	n, err := o.r.Read(p)
	if n > 0 || !errors.Is(err, io.EOF) {
		return n, err
	}
	if err := o.reap(); err != nil {
		return 0, err
	}
	return 0, io.EOF
}

func (o *output) reap() error {
	o.once.Do(func() { o.end = o.child.wait() })
	return o.end
}

func (o *output) Close() error {
	_ = o.child.kill() // one that has ended keeps its status
	err := o.r.Close()
	if errors.Is(err, os.ErrClosed) {
		err = nil
	}
	_ = o.reap() // what a reader that closes early does not want to know
	return err
}
