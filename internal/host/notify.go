package host

import (
	"fmt"
	"strings"
	"time"

	"snapd/internal/show"

	"github.com/coreos/go-systemd/v22/daemon"
	"golang.org/x/sys/unix"
)

// notify tells systemd how the service is. Without a systemd that listens it does
// nothing, which is no error.
func notify(state string) {
	_, _ = daemon.SdNotify(false, state) // what cannot be told is not worth ending for
}

// Ready says that calls are answered from now on. It also ends a reload.
func Ready() { notify(daemon.SdNotifyReady) }

// Stopping says that no more calls are answered.
func Stopping() { notify(daemon.SdNotifyStopping) }

// Reloading says that the configuration is being read anew; Ready ends it.
func Reloading() {
	var now unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &now) // cannot fail with this clock
	notify(fmt.Sprintf("%s\nMONOTONIC_USEC=%d", daemon.SdNotifyReloading, now.Nano()/1000))
}

// Status shows a text in systemctl status.
func Status(text string) {
	notify("STATUS=" + show.Text(strings.ReplaceAll(text, "\n", "; ")))
}

// Watchdog is how often Alive must be called, 0 when systemd does not watch.
func Watchdog() time.Duration {
	limit, err := daemon.SdWatchdogEnabled(false)
	if err != nil {
		return 0
	}
	return limit
}

// Alive feeds the watchdog.
func Alive() { notify(daemon.SdNotifyWatchdog) }
