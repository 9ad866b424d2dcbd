package vmtest

import (
	"context"
	"errors"
	"fmt"
)

// Result is what a command in the guest left.
type Result struct {
	Stdout string
	Stderr string
	Status int // exit status; 128 + n if signal n ended it
}

var errNoPower = errors.New("the guest has no power")

// Run runs one shell line as root and returns what it said and how it ended. A
// command that fails is no error; that it could not be run, or that ctx ended
// first, is. Its environment is root's, its directory /root.
func (g *Guest) Run(ctx context.Context, line string) (Result, error) {
	var out, said collector
	status, err := g.Stream(ctx, Command{Line: line, Stdout: &out, Stderr: &said})
	return Result{Stdout: out.String(), Stderr: said.String(), Status: status}, err
}

// Stream is Run with the output as it comes.
func (g *Guest) Stream(ctx context.Context, c Command) (status int, err error) {
	d := g.door.Load()
	if d == nil {
		return -1, errNoPower
	}
	status, err = d.run(ctx, c)
	if err != nil {
		return status, fmt.Errorf("run %q in the guest: %w", c.Line, err)
	}
	return status, nil
}

// Must runs one shell line and returns its standard output; that it fails is an
// error with what it said.
func (g *Guest) Must(ctx context.Context, line string) (string, error) {
	result, err := g.Run(ctx, line)
	if err != nil {
		return "", err
	}
	if result.Status != 0 {
		return "", fmt.Errorf("%q in the guest: exit status %d: %s%s", line, result.Status, result.Stdout, result.Stderr)
	}
	return result.Stdout, nil
}
