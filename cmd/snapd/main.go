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
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	status := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(status)
}
