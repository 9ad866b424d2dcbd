package daemon

import (
	"context"
	"fmt"
	"strings"
	"time"

	"snapd/internal/agent"

	systemd "snapd/internal/host"
)

// looked has the timers of labels written when their schedules changed. Another
// unit does it: this one may not write units.
func (d *Daemon) looked(ctx context.Context, all []agent.Schedule) {
	var b strings.Builder
	for _, t := range all {
		if t.FromLabels {
			fmt.Fprintln(&b, t.Group, t.Calendar)
		}
	}
	d.mu.Lock()
	changed := b.String() != d.labels
	d.labels = b.String()
	d.mu.Unlock()
	if changed {
		d.start(ctx, systemd.LookService)
	}
}

// start has systemd start another unit of ours. Where it cannot, a timer does so
// later.
func (d *Daemon) start(ctx context.Context, unit string) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	u, err := systemd.OpenUnits(ctx)
	if err != nil {
		return
	}
	defer u.Close()
	if err := u.Start(ctx, unit); err != nil {
		d.Log.Warn(err.Error(), "error", err.Error())
	}
}
