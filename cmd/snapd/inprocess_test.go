//go:build host || guest

package main

import (
	"context"
	"os"
	"testing"

	"snapd/internal/agent"
	"snapd/internal/workload"
)

// inProcess is an agent in this process, so that a test can do something in the
// middle of its window.
func inProcess(t *testing.T, w *where, fault func(string), engine func(context.Context) (*workload.Engine, error)) *agent.Agent {
	t.Helper()
	conf, err := w.load()
	if err != nil {
		t.Fatal(err)
	}
	o, err := w.options(conf, func(e agent.Event) {
		if e.Kind != agent.Progress {
			t.Log(e.Text)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	o.Engine, o.Fault = engine, fault
	a, err := agent.New(o)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func appendTo(t *testing.T, file, text string) {
	t.Helper()
	f, err := os.OpenFile(file, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteString(text); err != nil {
		t.Fatal(err)
	}
}
