package agent

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"time"

	"snapd/internal/durable"
)

// asideAge is after how long a file aside belongs to a process that was killed: each
// is written in one go.
const asideAge = 24 * time.Hour

// sweepState removes from the state directory what killed writes left there. No lock
// is needed: what is that old is not being written. What goes wrong hinders nothing.
func (a *Agent) sweepState() {
	if a.OnlyRepositories {
		return
	}
	err := filepath.WalkDir(a.State, func(path string, e fs.DirEntry, err error) error {
		if err == nil && e.IsDir() {
			err = durable.Sweep(path, asideAge)
		}
		if errors.Is(err, fs.ErrNotExist) {
			return nil // another process has removed it
		}
		return err
	})
	if err != nil {
		a.warnOfError("", fmt.Errorf("remove what killed writes left: %w", err))
	}
}

// sweepBefore removes what killed calls left half made.
func (a *Agent) sweepBefore(ctx context.Context, o PruneOptions) {
	if !o.DryRun {
		a.sweepStorage(ctx)
		a.sweepState()
	}
}
