// Command snapd takes atomic snapshots of what containers and services write,
// ships them to S3, restores them, and never leaves anything frozen. This
// package parses arguments, picks the concrete storages and stores, and maps
// errors to exit statuses; what is done is in internal/agent.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"snapd/internal/freeze"
)

func main() {
	if freeze.IsGuard() { // this process watches over another one's window
		os.Exit(guard(context.Background()))
	}
	ends := []os.Signal{os.Interrupt, syscall.SIGTERM}
	if !signal.Ignored(syscall.SIGHUP) { // nohup
		ends = append(ends, syscall.SIGHUP) // a closed terminal must not kill it in the window
	}
	ctx, _ := signal.NotifyContext(context.Background(), ends...) // heeded to the very end: what is done is done
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}
