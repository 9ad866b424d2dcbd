package main

import (
	"context"
	"errors"
	"flag"
	"io"
	"os"

	"snapd/internal/vmtest"
)

// paths is a flag that may be given more than once.
type paths []string

func (p *paths) String() string { return "" }

func (p *paths) Set(path string) error {
	*p = append(*p, path)
	return nil
}

// runLine copies files into /root of a fresh guest and runs one line there.
func runLine(ctx context.Context, args []string, stdin *os.File, stdout, stderr io.Writer) (status int, err error) {
	flags := flag.NewFlagSet("run", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	var push paths
	flags.Var(&push, "push", "a file or directory to copy into /root")
	if flags.Parse(args) != nil || flags.NArg() != 1 {
		return 0, errUsage
	}
	g, err := vmtest.Boot(ctx, vmtest.Spec{})
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, g.Close()) }()
	if len(push) > 0 {
		if err := g.CopyIn(ctx, "/root", push...); err != nil {
			return 0, err
		}
	}
	return g.Stream(ctx, vmtest.Command{Line: flags.Arg(0), Stdin: stdin, Stdout: stdout, Stderr: stderr})
}
