package lvm

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"snapd/internal/durable"
	"snapd/internal/fs"
	"snapd/internal/run"
)

// A snapshot has the filesystem's UUID of its origin. As soon as it is active
// udev would give it the link /dev/disk/by-uuid/…, and a mount by UUID would get
// the snapshot. These rules leave the link with the origin, and keep desktops
// from showing what is ours. They stand in udev's directory for this boot,
// unless a package brings them.
const (
	rulesName = "95-snapd-agent-lvm.rules"
	rulesText = `# Written by snapd-agent: what it reads from or restores into is not for others.
SUBSYSTEM=="block", ENV{DM_NAME}=="*-` + fs.SnapshotPrefix + `*", OPTIONS+="link_priority=-1000", ENV{SYSTEMD_READY}="0", ENV{UDISKS_IGNORE}="1"
`
)

// quietMemory says that the rules are there.
type quietMemory struct {
	sync.Mutex
	done bool
}

// beQuiet makes sure that activating a volume of ours disturbs no other program.
func (d *Driver) beQuiet(ctx context.Context) error {
	d.quiet.Lock()
	defer d.quiet.Unlock()
	if d.quiet.done {
		return nil
	}
	for _, dir := range []string{"/usr/lib/udev/rules.d", "/lib/udev/rules.d", "/etc/udev/rules.d", "/run/udev/rules.d"} {
		if text, err := os.ReadFile(filepath.Join(dir, rulesName)); err == nil && strings.Contains(string(text), rulesText) {
			d.quiet.done = true
			return nil
		}
	}
	if _, err := os.Stat("/run/udev"); errors.Is(err, os.ErrNotExist) {
		d.quiet.done = true // no udev, no links
		return nil
	}
	err := os.MkdirAll("/run/udev/rules.d", 0o755)
	if err == nil {
		err = durable.Write("/run/udev/rules.d/"+rulesName, []byte(rulesText), 0o600)
	}
	if err == nil {
		err = os.Chmod("/run/udev/rules.d/"+rulesName, 0o644)
	}
	if err == nil {
		_, err = run.Output(ctx, "udevadm", "control", "--reload")
	}
	if err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		d.quiet.done = true
		return d.notice("udev's rules for snapd's volumes cannot be put in place (%v): while one is being read, /dev/disk/by-uuid can point to it", err)
	}
	d.quiet.done = true
	return nil
}
