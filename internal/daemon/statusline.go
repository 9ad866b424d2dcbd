package daemon

import (
	"runtime/debug"
	"strings"

	systemd "snapd/internal/host"
)

// alive feeds the watchdog from the loop that accepts calls, and says in words
// what is under way.
func (d *Daemon) alive(calls []string) {
	systemd.Alive()
	text := d.statusLine(calls)
	d.mu.Lock()
	defer d.mu.Unlock()
	if text != d.shown {
		systemd.Status(text)
		d.shown = text
	}
	if len(calls) == 0 && !d.freed {
		debug.FreeOSMemory() // an agent that waits should take no memory from others
	}
	d.freed = len(calls) == 0
}

// statusLine is what systemctl status shows.
func (d *Daemon) statusLine(calls []string) string {
	text := "Idle; ends when no call has come for " + d.Idle.String()
	if len(calls) > 0 {
		text = strings.Join(calls, "; ")
	} else if d.watching.Load() {
		text = "Idle; watches the pools of LVM as long as snapshots live there"
	}
	if _, warning, err := d.config.current(); err != nil {
		text = "Every call fails: " + err.Error() + " (" + text + ")"
	} else if warning != nil {
		text = warning.Error() + " (" + text + ")"
	}
	return text
}
