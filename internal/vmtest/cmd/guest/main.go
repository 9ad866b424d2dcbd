// Command guest is the disposable guest machine for people, scripts and
// `go test -exec`. It is for this module's tests only, and is never installed.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"snapd/internal/vmtest"
)

const usage = `usage: guest COMMAND

  build                 make the image and the saved state, unless they are there
  exec BINARY [ARG…]    run a test binary in a fresh guest (go test -exec 'guest exec')
  run [-push FILE]… LINE
                        copy files into /root of a fresh guest, run the line there,
                        end with its status
  shell                 an interactive shell in a fresh guest
  test                  run all guest and outside tests of the module; fail
                        if one of them did not run
  clean                 remove all images and saved states
`

// What a caller cannot tell from the command's own status.
const (
	statusFailed      = 1
	statusUsage       = 2
	statusBroken      = 125 // the guest, not the command in it
	statusInterrupted = 130
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	status := run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr)
	stop()
	os.Exit(status)
}

func run(ctx context.Context, args []string, stdin *os.File, stdout, stderr io.Writer) int {
	if len(args) == 0 {
		fmt.Fprint(stderr, usage)
		return statusUsage
	}
	status, err := 0, error(nil)
	switch command, rest := args[0], args[1:]; command {
	case "build":
		err = vmtest.Prepare(ctx)
	case "clean":
		err = vmtest.Clean()
	case "exec":
		status, err = execute(ctx, rest, stdout, stderr)
	case "run":
		status, err = runLine(ctx, rest, stdin, stdout, stderr)
	case "shell":
		status, err = shell(ctx, stdin, stdout, stderr)
	case "test":
		status, err = test(ctx, rest, stdout, stderr)
	case "help", "-h", "--help":
		fmt.Fprint(stdout, usage)
	default:
		err = errUsage
	}
	switch {
	case errors.Is(err, errUsage):
		fmt.Fprint(stderr, usage)
		return statusUsage
	case err != nil && ctx.Err() != nil:
		fmt.Fprintln(stderr, "guest: interrupted")
		return statusInterrupted
	case err != nil:
		fmt.Fprintf(stderr, "guest: %v\n", err)
		if status > 0 {
			return status
		}
		return statusBroken
	}
	return status
}

var errUsage = errors.New("usage")
