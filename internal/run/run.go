// Package run starts one external program and waits for it: the whole
// argument list, a context, the C locale, a bounded tail of what it wrote to
// standard error, and an error that carries all of that. No child outlives us.
//
// It is not a shell, has no pipelines and interprets no output: the packages
// which call a program parse what it prints.
package run

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"syscall"
	"time"
)

// waitDelay is how long output that a killed program's children keep open is
// waited for.
const waitDelay = 5 * time.Second

// Program is one external program that is about to run.
type Program struct {
	// Argv is the whole argument list; Argv[0] is a name that is looked up
	// in PATH and the directories for administrators, or a path.
	Argv []string
	// Stdin is what the program reads; nil means nothing.
	Stdin io.Reader
	// Thread, if not nil, runs on the OS thread that then starts the
	// program: what it changes of that thread (its mount namespace) the
	// program inherits. The thread ends together with the program and is
	// never used for anything else.
	Thread func() error
	// Whole lets the program come to its end once it was started, whatever
	// happens to ctx or to this process: for one that must not stop half way
	// (LVM's suspend a volume and resume it). Output then waits for it, and
	// Pipe and Stdin are not for it.
	Whole bool
	// KeepOpen, if not nil, stays open in a program that is Whole: what is locked
	// by it stays locked until that program ends, even if this process does
	// not live to see it.
	KeepOpen *os.File
}

// Output runs argv and returns what it wrote to standard output.
func Output(ctx context.Context, argv ...string) ([]byte, error) {
	return Program{Argv: argv}.Output(ctx)
}

// Input runs argv and feeds it stdin. When stdin fails, the program is killed
// before its input is closed, so that it never takes a cut stream for a whole
// one; the error is then the reader's. Input returns only after the last Read.
func Input(ctx context.Context, stdin io.Reader, argv ...string) error {
	_, err := Program{Argv: argv, Stdin: stdin}.Output(ctx)
	return err
}

// Pipe starts argv and returns what it writes to standard output: see
// Program.Pipe.
func Pipe(ctx context.Context, argv ...string) (io.ReadCloser, error) {
	return Program{Argv: argv}.Pipe(ctx)
}

// Output runs the program to its end and returns what it wrote to standard
// output. On error the output so far is returned with it.
func (p Program) Output(ctx context.Context) ([]byte, error) {
	if p.Whole {
		return p.whole(ctx)
	}
	var out bytes.Buffer
	c, err := p.start(ctx, &out)
	if err != nil {
		return nil, err
	}
	err = c.wait()
	return out.Bytes(), err
}

// child is a program that runs.
type child struct {
	argv   []string
	ctx    context.Context //nolint:containedctx // bound to one call, as in exec.Cmd
	cmd    *exec.Cmd
	stderr tail
	feed   <-chan error // result of feeding stdin; nil when there is none
	done   chan struct{}
	err    error // of cmd.Wait; valid after done
}

// start runs the program on a thread of its own. Pdeathsig is sent when the
// thread that forked ends, not when the process does, so that thread stays
// until the child has ended.
func (p Program) start(ctx context.Context, stdout io.Writer) (*child, error) {
	if len(p.Argv) == 0 {
		return nil, errors.New("run a program: empty argument list")
	}
	if err := ctx.Err(); err != nil {
		return nil, &Error{Argv: p.Argv, Code: -1, Err: err}
	}
	path, err := lookPath(p.Argv[0])
	if err != nil {
		return nil, &Error{Argv: p.Argv, Code: -1, Err: err}
	}
	c := &child{argv: p.Argv, ctx: ctx, done: make(chan struct{})}
	c.cmd = exec.CommandContext(ctx, path, p.Argv[1:]...)
	c.cmd.Args[0] = p.Argv[0]
	c.cmd.Env = append(os.Environ(), "LC_ALL=C", "LANGUAGE=C")
	c.cmd.Dir = "/" // never keeps a user's filesystem busy
	c.cmd.Stdout, c.cmd.Stderr = stdout, &c.stderr
	c.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	c.cmd.Cancel = c.kill
	c.cmd.WaitDelay = waitDelay

	var stdin, feed *os.File
	if p.Stdin != nil {
		if stdin, feed, err = os.Pipe(); err != nil {
			return nil, fmt.Errorf("make a pipe for %s: %w", p.Argv[0], err)
		}
		c.cmd.Stdin = stdin
	}
	started := make(chan error, 1)
	go onOwnThread(p.Thread, started, func() error {
		err := c.cmd.Start()
		if stdin != nil {
			err = errors.Join(err, stdin.Close())
		}
		return err
	}, func() {
		c.err = c.cmd.Wait()
		close(c.done)
	})
	if err := <-started; err != nil {
		if feed != nil {
			err = errors.Join(err, feed.Close())
		}
		return nil, &Error{Argv: p.Argv, Code: -1, Err: err}
	}
	if feed != nil {
		result := make(chan error, 1)
		c.feed = result
		go func() { result <- c.feedFrom(p.Stdin, feed) }()
	}
	return c, nil
}

// feedFrom copies the reader into the program. Only a reader that ended well
// closes the program's input while the program lives.
func (c *child) feedFrom(from io.Reader, to *os.File) error {
	err := copyInput(to, from)
	if err != nil {
		_ = c.kill() // gone already is as good
		<-c.done
	}
	return errors.Join(err, to.Close())
}

// copyInput returns the reader's error. That the program stopped reading is
// not one: its exit status says what that means.
func copyInput(to *os.File, from io.Reader) error {
	_, err := io.CopyBuffer(struct{ io.Writer }{to}, struct{ io.Reader }{from}, make([]byte, 256<<10))
	if errors.Is(err, syscall.EPIPE) {
		return nil
	}
	return err
}

// kill ends the program and all that it started.
func (c *child) kill() error {
	select {
	case <-c.done: // its number may belong to another by now
		return os.ErrProcessDone
	default:
	}
	err := syscall.Kill(-c.cmd.Process.Pid, syscall.SIGKILL)
	if errors.Is(err, syscall.ESRCH) {
		return os.ErrProcessDone
	}
	return err
}

// wait returns what became of the program and of what fed it.
func (c *child) wait() error {
	<-c.done
	var fed error
	if c.feed != nil {
		fed = <-c.feed
		c.feed = nil
	}
	if fed != nil {
		return fmt.Errorf("feed %s: %w", c.argv[0], fed)
	}
	if c.err == nil {
		return nil
	}
	e := &Error{Argv: c.argv, Code: -1, Stderr: c.stderr.String(), Err: c.err}
	if exit := (*exec.ExitError)(nil); errors.As(c.err, &exit) {
		e.Code = exit.ExitCode()
	}
	if ctxErr := c.ctx.Err(); ctxErr != nil {
		e.Err = ctxErr
	}
	return e
}
