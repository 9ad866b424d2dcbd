package daemon

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"snapd/internal/agent"
	"snapd/internal/api"
	"snapd/internal/config"
)

// newDaemon reads what load says of a file that exists.
func newDaemon(t *testing.T, load func() (*config.Config, error)) (d *Daemon, file string) {
	t.Helper()
	file = filepath.Join(t.TempDir(), "snapd.toml")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	return New(Options{
		File: file, Load: load, Idle: time.Minute, Log: slog.New(slog.DiscardHandler),
		Now: func() time.Time { return time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC) },
	}), file
}

// TestAConfigurationStaysInForce: a file is read again when it changed, a wrong
// one is told to every caller and in the status line, and the last good one is used.
func TestAConfigurationStaysInForce(t *testing.T) {
	good, wrong := &config.Config{}, errors.New("no such key")
	var conf *config.Config
	fault, reads := wrong, 0
	d, file := newDaemon(t, func() (*config.Config, error) { reads++; return conf, fault })
	if _, _, err := d.config.current(); !errors.Is(err, wrong) {
		t.Errorf("without a good one: %v", err)
	}
	if line := d.statusLine(nil); !strings.HasPrefix(line, "Every call fails: no such key (Idle; ends when") {
		t.Errorf("the status line is %q", line)
	}
	conf, fault = good, nil
	if got, warning, err := d.config.current(); got != good || warning != nil || err != nil {
		t.Errorf("once it is good: %v, %v, %v", got, warning, err)
	}
	before := reads
	if got, _, _ := d.config.current(); got != good || reads != before {
		t.Errorf("an unchanged file was read %d times more", reads-before)
	}
	conf, fault = nil, wrong
	if err := os.WriteFile(file, []byte("changed"), 0o600); err != nil {
		t.Fatal(err)
	}
	got, warning, err := d.config.current()
	if want := "the one read at 03:04:05 stays in force: no such key"; got != good || err != nil || !strings.Contains(warning.Error(), want) {
		t.Errorf("while it is wrong: %v, %v, %v", got, warning, err)
	}
	if line := d.statusLine([]string{"ships shop"}); !strings.Contains(line, "no such key (ships shop)") {
		t.Errorf("the status line is %q", line)
	}
	if err := d.reload(t.Context()); !errors.Is(err, wrong) {
		t.Errorf("reload of a wrong one: %v", err)
	}
}

// TestCallsTakeTheirTurn: a second one waits for the first, or for its own end.
func TestCallsTakeTheirTurn(t *testing.T) {
	d, _ := newDaemon(t, nil)
	done, err := d.turn.wait(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := d.turn.wait(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("a cancelled call: %v", err)
	}
	second := make(chan error)
	go func() {
		done, err := d.turn.wait(t.Context())
		if err == nil {
			done()
		}
		second <- err
	}()
	select {
	case err := <-second:
		t.Errorf("a second call did not wait: %v", err)
	case <-time.After(50 * time.Millisecond):
	}
	done()
	if err := <-second; err != nil {
		t.Error(err)
	}
}

// TestAHangingConfigurationFeedsTheWatchdog: it lies on a filesystem that hangs. The
// loop that accepts calls goes on showing that it lives.
func TestAHangingConfigurationFeedsTheWatchdog(t *testing.T) {
	hang := make(chan struct{})
	d, _ := newDaemon(t, func() (*config.Config, error) { <-hang; return &config.Config{}, nil })
	stop := d.showStatus()
	fed := make(chan struct{})
	go func() {
		defer close(fed)
		for range 5 {
			d.alive([]string{"ships shop"})
			time.Sleep(time.Millisecond) // the status line is being made
		}
	}()
	select {
	case <-fed:
	case <-time.After(10 * time.Second):
		t.Error("the loop waits for the configuration")
	}
	begin := time.Now()
	stop()
	if took := time.Since(begin); took > 10*statusPatience {
		t.Errorf("its end waited for %v", took)
	}
	close(hang)
}

// TestCallsOfOneDaemonTellWhenTheyCanGoOn: each by itself.
func TestCallsOfOneDaemonTellWhenTheyCanGoOn(t *testing.T) {
	d, _ := newDaemon(t, func() (*config.Config, error) { return &config.Config{}, nil })
	var taken []func()
	d.Agent = func(conf *config.Config, _ agent.Report) (agent.Options, error) {
		dir := t.TempDir()
		return agent.Options{Config: conf, State: dir, Run: dir, Now: time.Now}, nil
	}
	calls := func() api.HandsOn {
		c, err := d.calls(t.Context(), func(agent.Event) {})
		if err != nil {
			t.Fatal(err)
		}
		p := c.(*patient)
		taken = append(taken, p.Taken)
		return p
	}
	first, second := calls(), calls()
	taken[0]()
	if !first.CanGoOn() || second.CanGoOn() {
		t.Errorf("the first can go on: %t, the second: %t", first.CanGoOn(), second.CanGoOn())
	}
}
