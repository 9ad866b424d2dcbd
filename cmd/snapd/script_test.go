package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
	"testing"

	"snapd/internal/freeze"

	"github.com/rogpeppe/go-internal/testscript"
)

func TestMain(m *testing.M) {
	if freeze.IsGuard() {
		os.Exit(guard(context.Background()))
	}
	testscript.Main(m, map[string]func(){
		"snapd": func() {
			count := mortal()
			ctx, _ := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM) // as main does
			status := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
			count()
			os.Exit(status)
		},
	})
}

// TestScripts runs testdata/script: the command line as a user types it, on
// nothing but files. $D are flags that keep it away from this host's own state.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Cmds:                map[string]func(*testscript.TestScript, bool, []string){"points": makePoints, "spoil": spoil},
		Setup: func(e *testscript.Env) error {
			e.Setenv("DOCKER_HOST", "unix://"+e.WorkDir+"/no-engine.sock")
			return nil
		},
	})
}
