package daemon

import (
	"runtime/debug"
	"strings"
	"time"

	systemd "snapd/internal/host"
	"snapd/internal/proc"
)

// alive feeds the watchdog as long as the loop that accepts calls turns. What else
// it tells may take its time, and takes none of this: a configuration on a filesystem
// that hangs is no reason to be killed in the middle of what is under way.
func (d *Daemon) alive(calls []string) {
	systemd.Alive()
	select {
	case <-d.under: // nothing has said it yet, and it is old now
	default:
	}
	d.under <- calls // there is room: only this sends
}

// statusPatience is how long the end of the agent waits for its status line.
const statusPatience = time.Second

// showStatus says in words what is under way, and gives unused memory back when
// nothing is: an agent that waits should take none from others.
func (d *Daemon) showStatus() (stop func()) {
	end, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		shown, freed := "", false
		for {
			select {
			case <-end:
				return
			case calls := <-d.under:
				if text := d.statusLine(calls); text != shown {
					systemd.Status(text)
					shown = text
				}
				if len(calls) == 0 && !freed {
					debug.FreeOSMemory()
					_ = proc.ReleaseProgram() // what stays resident costs memory, nothing else
				}
				freed = len(calls) == 0
			}
		}
	}()
	return func() {
		close(end)
		select {
		case <-ended:
		case <-time.After(statusPatience): // it waits for a filesystem, and may do so for ever
		}
	}
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
