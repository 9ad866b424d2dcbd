package run

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"syscall"

	"golang.org/x/sys/unix"
)

// whole runs a program that nothing of ours ends. What it prints goes into
// files that live as long as a process has them open, so that it can also print
// when we are gone: a broken pipe would end it.
func (p Program) whole(ctx context.Context) (_ []byte, err error) {
	if len(p.Argv) == 0 || p.Stdin != nil || p.Thread != nil {
		return nil, errors.New("run a program to its end: it takes arguments only")
	}
	if err := ctx.Err(); err != nil {
		return nil, &Error{Argv: p.Argv, Code: -1, Err: err}
	}
	path, err := lookPath(p.Argv[0])
	if err != nil {
		return nil, &Error{Argv: p.Argv, Code: -1, Err: err}
	}
	out, err := memory("output")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, out.Close()) }()
	said, err := memory("errors")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, said.Close()) }()

	cmd := exec.CommandContext(context.WithoutCancel(ctx), path, p.Argv[1:]...)
	cmd.Args[0] = p.Argv[0]
	cmd.Env = append(os.Environ(), "LC_ALL=C", "LANGUAGE=C")
	cmd.Dir = "/"
	cmd.Stdout, cmd.Stderr = out, said
	if p.KeepOpen != nil {
		cmd.ExtraFiles = []*os.File{p.KeepOpen}
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // a Ctrl-C at the terminal is not for it
	failed := cmd.Run()
	text, err := contents(out)
	if failed == nil || err != nil {
		return text, errors.Join(failed, err)
	}
	e := &Error{Argv: p.Argv, Code: -1, Err: failed}
	if exit := (*exec.ExitError)(nil); errors.As(failed, &exit) {
		e.Code = exit.ExitCode()
	}
	words, err := contents(said)
	var kept tail
	_, _ = kept.Write(words)
	e.Stderr = kept.String()
	return text, errors.Join(e, err)
}

// memory is a file that lies nowhere.
func memory(name string) (*os.File, error) {
	fd, err := unix.MemfdCreate(name, unix.MFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("make a file in memory: %w", os.NewSyscallError("memfd_create", err))
	}
	return os.NewFile(uintptr(fd), name), nil
}

func contents(f *os.File) ([]byte, error) {
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return nil, err
	}
	return io.ReadAll(f)
}
