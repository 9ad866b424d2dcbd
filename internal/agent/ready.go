package agent

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"snapd/internal/freeze"
	"snapd/internal/fs"
	"snapd/internal/workload"
)

// A member that was started anew while it was being looked up is looked up again.
const (
	tries    = 3
	tryAfter = 250 * time.Millisecond
)

// ready does all that a window needs before it, from looking up on. Hooks, and
// the wait for the window's lock, may have changed what was known before. When a
// member changes in between, all of it is done again; nothing is frozen then, and
// the hooks are not run again.
func (t *taking) ready(ctx context.Context) error {
	for try := 1; ; try++ {
		since := len(t.undo)
		t.lastTry = try == tries
		err := t.readyOnce(ctx)
		if err == nil || !changed(err) || try == tries || ctx.Err() != nil {
			return err
		}
		if undone := t.unwind(ctx, since); undone != nil {
			return errors.Join(err, undone)
		}
		t.step(t.group.Name, "looking again: %v", err)
		select {
		case <-ctx.Done():
		case <-time.After(tryAfter):
		}
	}
}

// changed tells from an error that a member is not what it was when it was looked
// up, so that looking again helps.
func changed(err error) bool {
	return errors.Is(err, freeze.ErrChanged) || errors.Is(err, workload.ErrChanged)
}

func (t *taking) readyOnce(ctx context.Context) error {
	for _, step := range []func(context.Context) error{
		t.lookAgain,  // what runs here now
		t.resolve,    // which datasets and members, how, or why not
		t.begin,      // on disk, before there are snapshots
		t.checkpoint, // databases write out what they have in memory
		t.prepare,    // resolve and open everything, flush
		t.openWindow, // the journal and the guard
	} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	return nil
}

func (t *taking) lookAgain(ctx context.Context) (err error) {
	if t.scene, err = t.again(ctx, t.scene); err != nil {
		return err
	}
	t.group, err = t.scene.find(t.group.Name)
	return err
}

func (t *taking) resolve(ctx context.Context) (err error) {
	if t.found, err = t.Agent.resolve(ctx, t.scene, t.group); err != nil {
		return err
	}
	if len(t.found.ended) > 0 && !t.lastTry { // perhaps only to be started anew
		return fmt.Errorf("container %s ended meanwhile: %w", strings.Join(t.found.ended, ", "), workload.ErrChanged)
	}
	if t.scene.engine != nil && t.found.promises() {
		t.follower = t.scene.engine.Follow(ctx, t.scene.since)
		t.then(func(context.Context) error {
			t.follower.Close()
			return nil
		})
	}
	return t.lookAtProcesses(ctx, t.scene, t.found)
}

func (t *taking) checkpoint(ctx context.Context) error {
	t.agreed = t.agree(t.scene, t.group, t.found, &t.point)
	t.agreed.checkpoint(ctx)
	return nil
}

func (t *taking) prepare(ctx context.Context) (err error) {
	if t.watch, t.unwatched = nil, nil; t.found.promises() {
		if t.watch, t.unwatched = t.found.reach.Watch(ctx); t.watch != nil {
			t.then(func(context.Context) error { return t.watch.Close() })
		}
	}
	t.then(func(context.Context) error { return t.shots.close() })
	t.shots, err = t.Agent.prepare(ctx, t.found, fs.SnapshotName(t.point.Time, string(t.point.ID)))
	return err
}

func (t *taking) openWindow(ctx context.Context) (err error) {
	o := t.windowOptions(t.scene, time.Duration(t.group.MaxWindow))
	o.Filesystems = t.found.disks
	if t.window, err = freeze.Prepare(ctx, t.found.members, o); err != nil {
		return fmt.Errorf("prepare the window: %w", err)
	}
	return nil
}

// shoot runs in the window. A process that writes between the first snapshot and
// the last one is seen.
func (t *taking) shoot() error {
	if t.watch != nil {
		t.unwatched = t.watch.Begin()
		defer t.watch.End()
	}
	err := t.shots.take()
	t.taken = t.Now()
	return err
}
