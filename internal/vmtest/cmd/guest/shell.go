package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"

	"snapd/internal/vmtest"
)

// shell gives a login shell in a fresh guest: with a terminal of its own if
// there is one here, else for what standard input holds.
func shell(ctx context.Context, stdin *os.File, stdout, stderr io.Writer) (status int, err error) {
	g, err := vmtest.Boot(ctx, vmtest.Spec{})
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, g.Close()) }()
	command := vmtest.Command{Line: "bash -l", Stdin: stdin, Stdout: stdout, Stderr: stderr}
	saved, err := stty(ctx, stdin, "-g")
	if err != nil {
		return g.Stream(ctx, command) // no terminal here
	}
	size, err := stty(ctx, stdin, "size")
	if err != nil {
		return 0, err
	}
	var rows, columns int
	if _, err := fmt.Sscan(size, &rows, &columns); err != nil {
		return 0, fmt.Errorf("read the terminal's size %q: %w", size, err)
	}
	fmt.Fprintf(stderr, "guest: a fresh machine; what happens in it is gone with this shell\n")
	if _, err := stty(ctx, stdin, "raw", "-echo"); err != nil {
		return 0, err
	}
	// The terminal is a person's: it is put right whatever happened.
	defer func() {
		_, restored := stty(context.WithoutCancel(ctx), stdin, strings.TrimSpace(saved))
		err = errors.Join(err, restored)
	}()
	command.Terminal = &vmtest.Terminal{Kind: os.Getenv("TERM"), Rows: rows, Columns: columns}
	return g.Stream(ctx, command)
}

func stty(ctx context.Context, terminal *os.File, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, "stty", args...)
	cmd.Stdin = terminal
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("stty %s: %w", strings.Join(args, " "), err)
	}
	return string(out), nil
}
