package vmtest

import (
	"context"
	_ "embed" // warm.sh
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"
)

//go:embed warm.sh
var warmScript string

// bootLimit is how long a guest may take from power on to a running system,
// with both processors taken by something else.
const bootLimit = 5 * time.Minute

// state is a booted guest at one instant: its disk, its memory, its devices.
type state struct {
	dir string // the cache entry
}

func (s state) disk() string    { return filepath.Join(s.dir, "disk.qcow2") }
func (s state) memory() string  { return filepath.Join(s.dir, "memory") }
func (s state) devices() string { return filepath.Join(s.dir, "devices") }

// ensureState returns the saved state of image i on this machine, from the
// cache or newly made. It belongs to one QEMU and one command line.
func (c cache) ensureState(ctx context.Context, i image, qemu string, accel accelerator) (state, error) {
	parts := []string{filepath.Base(i.dir), qemu, warmScript}
	if accel == kvm {
		parts = append(parts, hostDescription())
	}
	parts = append(parts, launch{accel: accel}.hardware()...)
	// Its disk builds on this very image, not on one that the same scripts made
	// at another time.
	sum, err := os.ReadFile(filepath.Join(i.dir, inventoryName))
	if err != nil {
		return state{}, fmt.Errorf("read the image's inventory: %w", err)
	}
	parts = append(parts, string(sum))
	result := state{dir: filepath.Join(c.dir, "booted-"+digest(parts...))}
	err = c.entry(ctx, result.dir, func(ctx context.Context, dir string) error {
		fmt.Fprintf(os.Stderr, "guest: booting the image once, by %s, to save its state\n", accel)
		return c.saveState(ctx, i, accel, state{dir: dir})
	})
	return result, err
}

// saveState boots image i, prepares it and leaves the result in s.
func (c cache) saveState(ctx context.Context, i image, accel accelerator, s state) (err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, bootLimit, fmt.Errorf("the guest did not boot within %s", bootLimit))
	defer cancel()
	dir, release, err := c.runDir()
	if err != nil {
		return err
	}
	defer release()
	if err := overlay(ctx, i.disk(), s.disk()); err != nil {
		return err
	}
	said := console{filepath.Join(dir, "console")}
	m, err := start(ctx, launch{
		image: i, accel: accel, disk: s.disk(), memory: s.memory(), write: true, console: said.path,
	}, nil)
	if err != nil {
		return err
	}
	defer func() {
		err = explain(err, said, m.messages.String(), m.monitor.happened())
		err = errors.Join(err, m.kill())
	}()
	if err := prepare(ctx, i, m); err != nil {
		return err
	}
	return saveMemory(ctx, m.monitor, s.devices())
}

// prepare runs warm.sh in the newly booted guest.
func prepare(ctx context.Context, i image, m *machine) error {
	door, err := connect(ctx, i, m)
	if err != nil {
		return err
	}
	defer door.close()
	if err := setClock(ctx, door); err != nil {
		return err
	}
	var said collector
	status, err := door.run(ctx, Command{Line: "sh -s", Stdin: strings.NewReader(warmScript), Stdout: &said, Stderr: &said})
	if err != nil {
		return fmt.Errorf("prepare the guest: %w", err)
	}
	if status != 0 {
		return fmt.Errorf("prepare the guest: exit status %d\n%s", status, said.String())
	}
	return nil
}

// saveMemory stops the guest and writes what its memory file does not hold.
func saveMemory(ctx context.Context, m *monitor, path string) error {
	if _, err := m.execute(ctx, "stop", nil); err != nil {
		return err
	}
	if err := ignoreShared(ctx, m); err != nil {
		return err
	}
	if _, err := m.execute(ctx, "migrate", map[string]any{"uri": "file:" + path}); err != nil {
		return err
	}
	if err := awaitMigration(ctx, m); err != nil {
		return err
	}
	// Ended in order, QEMU leaves a closed disk behind.
	if _, err := m.execute(ctx, "quit", nil); err != nil {
		return err
	}
	select {
	case <-m.done:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("end QEMU: %w", context.Cause(ctx))
	}
}

// restore continues a saved guest in the waiting QEMU behind m.
func restore(ctx context.Context, m *monitor, s state) error {
	if err := ignoreShared(ctx, m); err != nil {
		return err
	}
	if _, err := m.execute(ctx, "migrate-incoming", map[string]any{"uri": "file:" + s.devices()}); err != nil {
		return err
	}
	if err := awaitMigration(ctx, m); err != nil {
		return err
	}
	_, err := m.execute(ctx, "cont", nil) // it was stopped to be saved
	return err
}

// ignoreShared leaves the memory out of the state: it is in a file already.
func ignoreShared(ctx context.Context, m *monitor) error {
	_, err := m.execute(ctx, "migrate-set-capabilities", map[string]any{
		"capabilities": []map[string]any{{"capability": "x-ignore-shared", "state": true}},
	})
	return err
}

func awaitMigration(ctx context.Context, m *monitor) error {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		answer, err := m.execute(ctx, "query-migrate", nil)
		if err != nil {
			return err
		}
		var now struct {
			Status string `json:"status"`
			Error  string `json:"error-desc"`
		}
		if err := json.Unmarshal(answer, &now); err != nil {
			return fmt.Errorf("parse the migration's status: %w", err)
		}
		switch now.Status {
		case "completed":
			return nil
		case "failed", "cancelled":
			return fmt.Errorf("the guest's state: migration %s: %s", now.Status, now.Error)
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("the guest's state: %w", context.Cause(ctx))
		case <-tick.C:
		}
	}
}
